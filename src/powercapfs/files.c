/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/files.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/cleanup.h"

#define SLOT_NONE UINT32_MAX

/* One open file. */
struct slot {
    bool open;
    uint32_t vm_id;
    uint32_t next_free; /* SLOT_NONE ends the list; only of slots that are not open */
    uint64_t inode;
    struct open_text text;
};

/* One VM with open files, or with counts since its last open_files_forget(). */
struct account {
    uint32_t vm_id;
    uint32_t n_open;
    uint64_t reads;
    uint64_t cpu_ns[SOCKETS_MAX];
};

/*
 * A handle is nonce << 32 | slot. The nonce is this process' own, so handles
 * given out by a predecessor are told apart, and no handle is ever followed
 * as a pointer.
 */
struct open_files {
    uint32_t nonce; /* never 0 */
    uint32_t first_free;
    struct slot *slots;

    pthread_mutex_t lock;     /* of what follows */
    struct account *accounts; /* sorted by VM id */
    size_t n_accounts;
    size_t room;
};

int open_files_new(struct open_files **ret)
{
    _cleanup_free_ struct slot *slots = calloc(OPEN_FILES_MAX, sizeof(*slots));
    _cleanup_free_ struct open_files *files = calloc(1, sizeof(*files));

    if (!slots || !files)
        return -ENOMEM;
    while (files->nonce == 0)
        if (getrandom(&files->nonce, sizeof(files->nonce), 0) < 0)
            return -errno;
    for (uint32_t i = 0; i < OPEN_FILES_MAX; i++)
        slots[i].next_free = i + 1 < OPEN_FILES_MAX ? i + 1 : SLOT_NONE;
    pthread_mutex_init(&files->lock, NULL);
    files->slots = TAKE_PTR(slots);
    *ret = TAKE_PTR(files);
    return 0;
}

struct open_files *open_files_free(struct open_files *files)
{
    if (!files)
        return NULL;
    pthread_mutex_destroy(&files->lock);
    free(files->accounts);
    free(files->slots);
    free(files);
    return NULL;
}

/* Position of the first account whose id is not below the given one. */
static size_t account_seek(const struct open_files *files, uint32_t vm_id)
{
    size_t low = 0, high = files->n_accounts;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (files->accounts[middle].vm_id < vm_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct account *account_find(const struct open_files *files, uint32_t vm_id)
{
    size_t position = account_seek(files, vm_id);

    if (position == files->n_accounts || files->accounts[position].vm_id != vm_id)
        return NULL;
    return &files->accounts[position];
}

static bool accounts_grow(struct open_files *files)
{
    size_t room = files->room ? files->room * 2 : 16;
    struct account *accounts;

    if (files->n_accounts < files->room)
        return true;
    if (files->n_accounts >= OPEN_FILES_VMS_MAX)
        return false;
    accounts = realloc(files->accounts, room * sizeof(*accounts));
    if (!accounts)
        return false;
    files->accounts = accounts;
    files->room = room;
    return true;
}

/* The VM's account, made at its first use; NULL beyond the bound. */
static struct account *account_get(struct open_files *files, uint32_t vm_id)
{
    size_t position = account_seek(files, vm_id);
    struct account *account = account_find(files, vm_id);

    if (account)
        return account;
    if (!accounts_grow(files))
        return NULL;
    account = &files->accounts[position];
    memmove(account + 1, account, (files->n_accounts - position) * sizeof(*account));
    files->n_accounts++;
    *account = (struct account){.vm_id = vm_id};
    return account;
}

static void account_drop(struct open_files *files, struct account *account)
{
    const struct account *end = files->accounts + files->n_accounts;

    memmove(account, account + 1, (size_t)(end - account - 1) * sizeof(*account));
    files->n_accounts--;
}

/* Takes one of the VM's open files. */
static bool account_open(struct open_files *files, uint32_t vm_id)
{
    struct account *account;
    bool granted;

    pthread_mutex_lock(&files->lock);
    account = account_get(files, vm_id);
    granted = account && account->n_open < OPEN_FILES_PER_VM;
    if (granted)
        account->n_open++;
    pthread_mutex_unlock(&files->lock);
    return granted;
}

static void account_close(struct open_files *files, uint32_t vm_id)
{
    struct account *account;

    pthread_mutex_lock(&files->lock);
    account = account_find(files, vm_id);
    if (account) {
        account->n_open--;
        if (account->n_open == 0 && account->reads == 0)
            account_drop(files, account);
    }
    pthread_mutex_unlock(&files->lock);
}

uint64_t open_files_open(struct open_files *files, uint32_t vm_id, uint64_t inode)
{
    uint32_t index = files->first_free;
    struct slot *slot;

    if (index == SLOT_NONE || !account_open(files, vm_id))
        return 0;
    slot = &files->slots[index];
    files->first_free = slot->next_free;
    slot->open = true;
    slot->vm_id = vm_id;
    slot->inode = inode;
    slot->text.length = 0;
    return (uint64_t)files->nonce << 32 | index;
}

static struct slot *slot_find(const struct open_files *files, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;

    if (handle >> 32 != files->nonce || index >= OPEN_FILES_MAX || !files->slots[index].open)
        return NULL;
    return &files->slots[index];
}

void open_files_close(struct open_files *files, uint64_t handle)
{
    struct slot *slot = slot_find(files, handle);

    if (!slot)
        return;
    account_close(files, slot->vm_id);
    slot->open = false;
    slot->next_free = files->first_free;
    files->first_free = (uint32_t)(slot - files->slots);
}

struct open_text *open_files_text(struct open_files *files, uint64_t handle, uint64_t inode)
{
    struct slot *slot = slot_find(files, handle);

    return slot && slot->inode == inode ? &slot->text : NULL;
}

void open_files_count_read(struct open_files *files, uint32_t vm_id)
{
    struct account *account;

    pthread_mutex_lock(&files->lock);
    account = account_get(files, vm_id);
    if (account)
        account->reads++;
    pthread_mutex_unlock(&files->lock);
}

void open_files_charge(struct open_files *files, uint32_t vm_id, unsigned socket, uint64_t cpu_ns)
{
    struct account *account;

    pthread_mutex_lock(&files->lock);
    account = account_get(files, vm_id);
    if (account)
        account->cpu_ns[socket] += cpu_ns;
    pthread_mutex_unlock(&files->lock);
}

void open_files_take_cpu(struct open_files *files, uint32_t vm_id, uint64_t ret_ns[SOCKETS_MAX])
{
    struct account *account;

    memset(ret_ns, 0, SOCKETS_MAX * sizeof(*ret_ns));
    pthread_mutex_lock(&files->lock);
    account = account_find(files, vm_id);
    if (account) {
        memcpy(ret_ns, account->cpu_ns, sizeof(account->cpu_ns));
        memset(account->cpu_ns, 0, sizeof(account->cpu_ns));
    }
    pthread_mutex_unlock(&files->lock);
}

uint64_t open_files_reads(struct open_files *files, uint32_t vm_id)
{
    const struct account *account;
    uint64_t reads;

    pthread_mutex_lock(&files->lock);
    account = account_find(files, vm_id);
    reads = account ? account->reads : 0;
    pthread_mutex_unlock(&files->lock);
    return reads;
}

void open_files_forget(struct open_files *files, uint32_t vm_id)
{
    struct account *account;

    pthread_mutex_lock(&files->lock);
    account = account_find(files, vm_id);
    if (account) {
        account->reads = 0;
        if (account->n_open == 0)
            account_drop(files, account);
    }
    pthread_mutex_unlock(&files->lock);
}
