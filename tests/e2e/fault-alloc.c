/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Preloaded: allocations that the program's own code asks for can fail.
 *
 * The file that FAULT_ALLOC names is mapped, and says which. Only calls from
 * the program count, not those of the libraries that it uses: what these do
 * without memory (GLib, in libvirt, aborts) is theirs.
 */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <search.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
    _Atomic uint64_t n; /* how many there were */
    _Atomic uint64_t n_failed;
    _Atomic uint64_t fail_at; /* this one fails, from 1 on; 0: none */
    _Atomic uint64_t one_in;  /* every so manieth fails, by chance; 0: none */
};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);

static struct control *control;
static uintptr_t program_start, program_end;

static int find_program(struct dl_phdr_info *info, size_t size, void *userdata)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];

        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X))
            continue;
        program_start = info->dlpi_addr + header->p_vaddr;
        program_end = program_start + header->p_memsz;
    }
    return 1; /* the program is the first */
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULT_ALLOC");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory;

    if (fd < 0)
        return;
    dl_iterate_phdr(find_program, NULL);
    memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

/* A chance that is the same in every run. */
static bool is_drawn(uint64_t n, uint64_t one_in)
{
    return one_in && (n * UINT64_C(0x9e3779b97f4a7c15) >> 32) % one_in == 0;
}

static bool fails(const void *caller)
{
    uint64_t n;

    if (!control || (uintptr_t)caller < program_start || (uintptr_t)caller >= program_end)
        return false;
    n = atomic_fetch_add(&control->n, 1) + 1;
    if (n != atomic_load(&control->fail_at) && !is_drawn(n, atomic_load(&control->one_in)))
        return false;
    atomic_fetch_add(&control->n_failed, 1);
    errno = ENOMEM;
    return true;
}

#define FAILS() fails(__builtin_return_address(0))

void *malloc(size_t size)
{
    return FAILS() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return FAILS() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *memory, size_t size)
{
    return FAILS() ? NULL : __libc_realloc(memory, size);
}

char *strndup(const char *text, size_t max)
{
    size_t length = strnlen(text, max);
    char *copy = FAILS() ? NULL : __libc_malloc(length + 1);

    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = FAILS() ? NULL : __libc_malloc(size);

    return copy ? memcpy(copy, text, size) : NULL;
}

/* Functions of libc that allocate for their caller. */
#define PASS_ON(type, name, parameters, arguments)                                                 \
    type name parameters                                                                           \
    {                                                                                              \
        type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name);                      \
                                                                                                   \
        return FAILS() ? NULL : next arguments;                                                    \
    }

PASS_ON(DIR *, opendir, (const char *path), (path))
PASS_ON(DIR *, fdopendir, (int fd), (fd))
PASS_ON(FILE *, open_memstream, (char **text, size_t *size), (text, size))
PASS_ON(void *, tsearch, (const void *key, void **root, comparison_fn_t compare),
        (key, root, compare))

int asprintf(char **ret, const char *format, ...)
{
    va_list arguments;
    int n;

    if (FAILS())
        return -1;
    va_start(arguments, format);
    n = vasprintf(ret, format, arguments);
    va_end(arguments);
    return n;
}
