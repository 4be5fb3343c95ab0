/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "util/search.h"

/* A tick of a few VMs takes well below a millisecond; one of thousands, tens of them. */
const double tick_bucket_seconds[TICK_BUCKETS] = {
    0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1,
};

/*
 * The board's lock is held for the few instructions that swap a pointer or
 * change a count; no thread reads, renders or frees while it holds the lock.
 */
struct snapshot_board {
    pthread_mutex_t lock;
    struct snapshot *current; /* holds one reference; NULL before the first post */
};

struct snapshot *snapshot_new(size_t n_vms)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (!snapshot)
        return NULL;
    snapshot->vms = calloc(n_vms, sizeof(*snapshot->vms));
    snapshot->by_id = calloc(n_vms, sizeof(*snapshot->by_id));
    if (n_vms && (!snapshot->vms || !snapshot->by_id))
        return snapshot_free(snapshot);
    return snapshot;
}

struct snapshot *snapshot_free(struct snapshot *snapshot)
{
    if (!snapshot)
        return NULL;
    free(snapshot->vms);
    free(snapshot->by_id);
    free(snapshot);
    return NULL;
}

static int compare_uuid(const void *key, const void *vm)
{
    return uuid_compare(key, ((const struct snapshot_vm *)vm)->uuid);
}

const struct snapshot_vm *snapshot_find_uuid(const struct snapshot *snapshot, const uuid_t uuid)
{
    if (snapshot->n_vms == 0)
        return NULL;
    return bsearch(uuid, snapshot->vms, snapshot->n_vms, sizeof(*snapshot->vms), compare_uuid);
}

struct id_search {
    const struct snapshot *snapshot;
    uint64_t id;
};

static bool is_before_id(size_t position, const void *userdata)
{
    const struct id_search *search = userdata;

    return search->snapshot->vms[search->snapshot->by_id[position]].id < search->id;
}

size_t snapshot_seek_id(const struct snapshot *snapshot, uint64_t id)
{
    return lower_bound(snapshot->n_vms, is_before_id, &(struct id_search){snapshot, id});
}

const struct snapshot_vm *snapshot_find_id(const struct snapshot *snapshot, uint32_t id)
{
    size_t position = snapshot_seek_id(snapshot, id);
    const struct snapshot_vm *vm;

    if (position == snapshot->n_vms)
        return NULL;
    vm = &snapshot->vms[snapshot->by_id[position]];
    return vm->id == id ? vm : NULL;
}

uint64_t ramp_value(const struct ramp *ramp, uint64_t start_ns, uint64_t length_ns,
                    uint64_t time_ns)
{
    if (time_ns <= start_ns)
        return ramp->from_uj;
    if (time_ns - start_ns >= length_ns)
        return ramp->to_uj;
    return ramp->from_uj + (uint64_t)((__uint128_t)(ramp->to_uj - ramp->from_uj) *
                                      (time_ns - start_ns) / length_ns);
}

uint64_t snapshot_energy_uj(const struct snapshot *snapshot, const struct snapshot_vm *vm,
                            enum tree_zone zone, uint64_t time_ns)
{
    return ramp_value(&vm->tree[zone], snapshot->ramp_start_ns, snapshot->interval_ns, time_ns);
}

int snapshot_board_new(struct snapshot_board **ret)
{
    struct snapshot_board *board = calloc(1, sizeof(*board));

    if (!board)
        return -ENOMEM;
    pthread_mutex_init(&board->lock, NULL);
    *ret = board;
    return 0;
}

struct snapshot_board *snapshot_board_free(struct snapshot_board *board)
{
    if (!board)
        return NULL;
    snapshot_board_release(board, board->current);
    pthread_mutex_destroy(&board->lock);
    free(board);
    return NULL;
}

void snapshot_board_post(struct snapshot_board *board, struct snapshot *snapshot)
{
    struct snapshot *previous;

    snapshot->references = 1;
    pthread_mutex_lock(&board->lock);
    previous = board->current;
    board->current = snapshot;
    pthread_mutex_unlock(&board->lock);
    snapshot_board_release(board, previous);
}

const struct snapshot *snapshot_board_acquire(struct snapshot_board *board)
{
    struct snapshot *snapshot;

    pthread_mutex_lock(&board->lock);
    snapshot = board->current;
    if (snapshot)
        snapshot->references++;
    pthread_mutex_unlock(&board->lock);
    return snapshot;
}

void snapshot_board_release(struct snapshot_board *board, const struct snapshot *snapshot)
{
    /* The snapshot is constant for readers; its count belongs to the board. */
    struct snapshot *counted = (struct snapshot *)snapshot;
    bool last;

    if (!snapshot)
        return;
    pthread_mutex_lock(&board->lock);
    last = --counted->references == 0;
    pthread_mutex_unlock(&board->lock);
    if (last)
        snapshot_free(counted);
}
