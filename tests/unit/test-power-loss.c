/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a power loss leaves of a file that is replaced, after each operation
 * that a file system may or may not have brought to the disk.
 *
 * fsync() and rename() are this program's own, and keep an account of a disk
 * that holds nothing but what it must: the content that a file had at its last
 * fsync(), and the names of the last fsync() of the directory ("late") or those
 * of now ("early": many file systems write names before contents).
 */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fixture.h"
#include "util/file.h"

#define SIZE_MAX_BYTES 20000
#define FILES_MAX 64

/* A file by its inode number, for ever: no number is used twice while a descriptor is open. */
struct file {
    ino_t inode;
    int keep_fd;
    size_t size; /* of what is on the disk; the rest of the bytes is lost */
    char bytes[SIZE_MAX_BYTES];
};

static struct file files[FILES_MAX];
static size_t n_files;
static ino_t early, late; /* who has the name; 0: nobody */
static unsigned n_operations;

/* The contents that may be there; the second is to be there once it has been written. */
static struct {
    const char *bytes;
    size_t size;
} contents[2];

static struct file *find_file(ino_t inode)
{
    for (size_t i = 0; i < n_files; i++)
        if (files[i].inode == inode)
            return &files[i];
    return NULL;
}

static bool is_content(const struct file *file, int i)
{
    size_t size = file ? file->size : 0;

    return size == contents[i].size && (!size || memcmp(file->bytes, contents[i].bytes, size) == 0);
}

static void check_disk(void)
{
    const ino_t names[] = {early, late};

    n_operations++;
    for (int i = 0; i < 2; i++) {
        const struct file *file = names[i] ? find_file(names[i]) : NULL;

        assert_true(!names[i] || file);
        assert_true(is_content(file, 0) || is_content(file, 1));
    }
}

int fsync(int fd)
{
    struct file *file;
    ssize_t length;
    struct stat st;
    char path[32];

    assert_int_equal(fstat(fd, &st), 0);
    if (S_ISDIR(st.st_mode)) {
        late = early;
    } else {
        file = find_file(st.st_ino);
        if (!file) {
            assert_true(n_files < FILES_MAX);
            file = &files[n_files++];
            *file = (struct file){.inode = st.st_ino, .keep_fd = dup(fd)};
        }
        /* It may be open for writing only. */
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        length = read_file(AT_FDCWD, path, file->bytes, sizeof(file->bytes));
        assert_int_equal(length, st.st_size);
        file->size = (size_t)length;
    }
    check_disk();
    return 0;
}

int rename(const char *from, const char *to)
{
    struct stat st;

    assert_int_equal(stat(from, &st), 0);
    early = st.st_ino;
    /* Whose content was never brought there has none. */
    if (!find_file(early))
        files[n_files++] = (struct file){.inode = early, .keep_fd = open(from, O_RDONLY)};
    check_disk();
    return (int)syscall(SYS_rename, from, to);
}

static void forget_disk(void)
{
    while (n_files > 0)
        close(files[--n_files].keep_fd);
    early = late = 0;
    contents[0].size = 0;
}

static int write_checkpoint(const char *root, const char *bytes, size_t size)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/state/ledger", root);
    return replace_file(path, bytes, size, 0600);
}

static int write_file(const char *root, const char *bytes, size_t size)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/file", root);
    return replace_file(path, bytes, size, 0644);
}

static void check_replacing(int (*write)(const char *root, const char *bytes, size_t size),
                            const char *root)
{
    static char bytes[2][SIZE_MAX_BYTES];

    forget_disk();
    for (size_t i = 0; i < 20; i++) {
        size_t size = 1 + i * 991 % (SIZE_MAX_BYTES - 1);

        memset(bytes[i % 2], 'a' + (int)i, size);
        contents[1].bytes = bytes[i % 2];
        contents[1].size = size;
        n_operations = 0;
        assert_int_equal(write(root, bytes[i % 2], size), 0);
        /* Told to be written, it is. */
        assert_true(is_content(find_file(early), 1) && is_content(find_file(late), 1));
        assert_true(n_operations >= 3);
        contents[0] = contents[1];
    }
}

static void test_checkpoint(void **state)
{
    check_replacing(write_checkpoint, *state);
}

static void test_baseline_file(void **state)
{
    check_replacing(write_file, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_checkpoint, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_baseline_file, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
