/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/files.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/cleanup.h"
#include "util/search.h"

#define FILE_NONE UINT32_MAX

struct open_file {
    bool open;
    uint32_t vm_id;
    uint32_t next_free; /* of a file that is not open; FILE_NONE ends the chain */
    uint64_t inode;
    struct open_text text;
};

/* One VM with open files, or with counts since its last open_files_forget(). */
struct vm_counts {
    uint32_t vm_id;
    uint32_t n_open;
    uint64_t reads;
    uint64_t cpu_ns[PACKAGES_MAX]; /* by package */
};

/*
 * A handle is nonce << 32 | index. Each process has a nonce of its own, so the
 * handles of a former one are recognised, and no handle is ever followed as a
 * pointer.
 */
struct open_files {
    uint32_t nonce; /* never 0 */
    uint32_t first_free;
    struct open_file *list; /* OPEN_FILES_MAX of them, open or not */

    pthread_mutex_t lock;     /* guards the members below */
    struct vm_counts *counts; /* sorted by VM id */
    size_t n_counts;
    size_t room;
};

int open_files_new(struct open_files **ret)
{
    _cleanup_free_ struct open_file *list = calloc(OPEN_FILES_MAX, sizeof(*list));
    _cleanup_free_ struct open_files *files = calloc(1, sizeof(*files));

    if (!list || !files)
        return -ENOMEM;
    while (files->nonce == 0)
        if (getrandom(&files->nonce, sizeof(files->nonce), 0) < 0)
            return -errno;
    for (uint32_t i = 0; i < OPEN_FILES_MAX; i++)
        list[i].next_free = i + 1 < OPEN_FILES_MAX ? i + 1 : FILE_NONE;
    pthread_mutex_init(&files->lock, NULL);
    files->list = TAKE_PTR(list);
    *ret = TAKE_PTR(files);
    return 0;
}

struct open_files *open_files_free(struct open_files *files)
{
    if (!files)
        return NULL;
    pthread_mutex_destroy(&files->lock);
    free(files->counts);
    free(files->list);
    free(files);
    return NULL;
}

struct sought {
    const struct vm_counts *counts;
    uint32_t vm_id;
};

static bool counts_are_before(size_t i, const void *userdata)
{
    const struct sought *sought = userdata;

    return sought->counts[i].vm_id < sought->vm_id;
}

/* Position of the first counts whose id is not below the given one. */
static size_t counts_seek(const struct open_files *files, uint32_t vm_id)
{
    return lower_bound(files->n_counts, counts_are_before, &(struct sought){files->counts, vm_id});
}

static struct vm_counts *counts_find(const struct open_files *files, uint32_t vm_id)
{
    size_t position = counts_seek(files, vm_id);

    if (position == files->n_counts || files->counts[position].vm_id != vm_id)
        return NULL;
    return &files->counts[position];
}

static bool counts_grow(struct open_files *files)
{
    size_t room = files->room ? files->room * 2 : 16;
    struct vm_counts *counts;

    if (files->n_counts < files->room)
        return true;
    if (files->n_counts >= OPEN_FILES_VMS_MAX)
        return false;
    counts = realloc(files->counts, room * sizeof(*counts));
    if (!counts)
        return false;
    files->counts = counts;
    files->room = room;
    return true;
}

/* The VM's counts, made at its first use; NULL beyond the bound. */
static struct vm_counts *counts_get(struct open_files *files, uint32_t vm_id)
{
    size_t position = counts_seek(files, vm_id);
    struct vm_counts *counts = counts_find(files, vm_id);

    if (counts)
        return counts;
    if (!counts_grow(files))
        return NULL;
    counts = &files->counts[position];
    memmove(counts + 1, counts, (files->n_counts - position) * sizeof(*counts));
    files->n_counts++;
    *counts = (struct vm_counts){.vm_id = vm_id};
    return counts;
}

static void counts_drop(struct open_files *files, struct vm_counts *counts)
{
    const struct vm_counts *end = files->counts + files->n_counts;

    memmove(counts, counts + 1, (size_t)(end - counts - 1) * sizeof(*counts));
    files->n_counts--;
}

/* Counts another open file of the VM. @return false: a bound is reached */
static bool count_open(struct open_files *files, uint32_t vm_id)
{
    struct vm_counts *counts;
    bool granted;

    pthread_mutex_lock(&files->lock);
    counts = counts_get(files, vm_id);
    granted = counts && counts->n_open < OPEN_FILES_PER_VM;
    if (granted)
        counts->n_open++;
    pthread_mutex_unlock(&files->lock);
    return granted;
}

static void count_close(struct open_files *files, uint32_t vm_id)
{
    struct vm_counts *counts;

    pthread_mutex_lock(&files->lock);
    counts = counts_find(files, vm_id);
    assert(counts && counts->n_open > 0);
    counts->n_open--;
    if (counts->n_open == 0 && counts->reads == 0)
        counts_drop(files, counts);
    pthread_mutex_unlock(&files->lock);
}

uint64_t open_files_open(struct open_files *files, uint32_t vm_id, uint64_t inode)
{
    uint32_t index = files->first_free;
    struct open_file *file;

    if (index == FILE_NONE || !count_open(files, vm_id))
        return 0;
    file = &files->list[index];
    files->first_free = file->next_free;
    file->open = true;
    file->vm_id = vm_id;
    file->inode = inode;
    file->text.length = 0;
    return (uint64_t)files->nonce << 32 | index;
}

static struct open_file *file_find(const struct open_files *files, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;

    if (handle >> 32 != files->nonce || index >= OPEN_FILES_MAX || !files->list[index].open)
        return NULL;
    return &files->list[index];
}

void open_files_close(struct open_files *files, uint64_t handle)
{
    struct open_file *file = file_find(files, handle);

    if (!file)
        return;
    count_close(files, file->vm_id);
    file->open = false;
    file->next_free = files->first_free;
    files->first_free = (uint32_t)(file - files->list);
}

struct open_text *open_files_text(struct open_files *files, uint64_t handle, uint64_t inode)
{
    struct open_file *file = file_find(files, handle);

    return file && file->inode == inode ? &file->text : NULL;
}

void open_files_count_read(struct open_files *files, uint32_t vm_id)
{
    struct vm_counts *counts;

    pthread_mutex_lock(&files->lock);
    counts = counts_get(files, vm_id);
    if (counts)
        counts->reads++;
    pthread_mutex_unlock(&files->lock);
}

void open_files_charge(struct open_files *files, uint32_t vm_id, unsigned package, uint64_t cpu_ns)
{
    struct vm_counts *counts;

    assert(package < PACKAGES_MAX);
    pthread_mutex_lock(&files->lock);
    counts = counts_get(files, vm_id);
    if (counts)
        counts->cpu_ns[package] += cpu_ns;
    pthread_mutex_unlock(&files->lock);
}

void open_files_take_cpu(struct open_files *files, uint32_t vm_id, uint64_t ret_ns[PACKAGES_MAX])
{
    struct vm_counts *counts;

    memset(ret_ns, 0, PACKAGES_MAX * sizeof(*ret_ns));
    pthread_mutex_lock(&files->lock);
    counts = counts_find(files, vm_id);
    if (counts) {
        memcpy(ret_ns, counts->cpu_ns, sizeof(counts->cpu_ns));
        memset(counts->cpu_ns, 0, sizeof(counts->cpu_ns));
    }
    pthread_mutex_unlock(&files->lock);
}

uint64_t open_files_reads(struct open_files *files, uint32_t vm_id)
{
    const struct vm_counts *counts;
    uint64_t reads;

    pthread_mutex_lock(&files->lock);
    counts = counts_find(files, vm_id);
    reads = counts ? counts->reads : 0;
    pthread_mutex_unlock(&files->lock);
    return reads;
}

void open_files_forget(struct open_files *files, uint32_t vm_id)
{
    struct vm_counts *counts;

    pthread_mutex_lock(&files->lock);
    counts = counts_find(files, vm_id);
    if (counts) {
        counts->reads = 0;
        if (counts->n_open == 0)
            counts_drop(files, counts);
    }
    pthread_mutex_unlock(&files->lock);
}
