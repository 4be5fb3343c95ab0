/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "readers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/require.h"

#define READERS 64
#define READERS_PER_TICK 8
#define COUNTER_END (TREE_MAX_ENERGY_UJ + 1)

struct reader {
    bool open;
    uint32_t guest;
    uint32_t vm_id;
    enum tree_zone zone;
    uint64_t inode;
    uint64_t handle;
    bool has_read;
    uint64_t last_uj;
};

struct readers {
    struct reader readers[READERS];
    size_t next;
    uint64_t reads;
    uint64_t stale;
};

static const char *const paths[] = {
    "class/powercap/intel-rapl/intel-rapl:0/energy_uj",
    "class/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/energy_uj", /* DRAM: there is no core */
    "class/powercap/intel-rapl/intel-rapl:1/energy_uj",
};
static const enum tree_zone zones_of_paths[] = {TREE_PACKAGE, TREE_DRAM, TREE_PSYS};

struct readers *readers_new(void)
{
    struct readers *readers = calloc(1, sizeof(*readers));

    require(readers != NULL);
    return readers;
}

void readers_free(struct readers *readers)
{
    free(readers);
}

uint64_t readers_reads(const struct readers *readers)
{
    return readers->reads;
}

uint64_t readers_stale(const struct readers *readers)
{
    return readers->stale;
}

/* @return 0 or a negative errno */
static int lookup(struct fuse_fixture *requests, uint64_t *inode, const char *name)
{
    struct fuse_entry_out entry;
    int r = fuse_fixture_send(requests, FUSE_LOOKUP, *inode, name, strlen(name) + 1);

    if (r < 0)
        return r;
    memcpy(&entry, requests->body, sizeof(entry));
    *inode = entry.nodeid;
    return 0;
}

static const struct snapshot_vm *vm_with_tree(const struct snapshot *snapshot, uint32_t id)
{
    const struct snapshot_vm *vm = snapshot_find_id(snapshot, id);

    return vm && vm->has_tree ? vm : NULL;
}

static void open_counter(struct reader *reader, const struct soak_daemon *daemon, struct host *host)
{
    const struct fuse_open_in in = {.flags = O_RDONLY};
    size_t which = random_next(&host->random) % 3;
    char path[256], uuid_text[UUID_TEXT_SIZE], *rest = NULL;
    struct fuse_open_out out;
    uint64_t inode = FUSE_ROOT_ID;
    int r = 0;

    reader->guest = host->running[random_next(&host->random) % host->n_running];
    uuid_unparse_lower(host->guests[reader->guest].uuid, uuid_text);
    snprintf(path, sizeof(path), "%s/%s", uuid_text, paths[which]);
    for (char *name = strtok_r(path, "/", &rest); name && r == 0; name = strtok_r(NULL, "/", &rest))
        r = lookup(daemon->requests, &inode, name);
    /* A VM that ran before psys was found has none. */
    require(r == 0 || (which == 2 && r == -ENOENT));
    if (r < 0)
        return;
    require(fuse_fixture_send(daemon->requests, FUSE_OPEN, inode, &in, sizeof(in)) == 0);
    memcpy(&out, daemon->requests->body, sizeof(out));
    *reader = (struct reader){
        .open = true,
        .guest = reader->guest,
        .vm_id = tree_inode_vm(inode),
        .zone = zones_of_paths[which],
        .inode = inode,
        .handle = out.fh,
    };
}

static void close_counter(struct reader *reader, const struct soak_daemon *daemon)
{
    const struct fuse_release_in in = {.fh = reader->handle};

    require(fuse_fixture_send(daemon->requests, FUSE_RELEASE, reader->inode, &in, sizeof(in)) == 0);
    reader->open = false;
}

static void check_value(struct reader *reader, const struct soak_daemon *daemon,
                        const struct snapshot *snapshot, const struct host *host)
{
    const struct snapshot_vm *vm = vm_with_tree(snapshot, reader->vm_id);
    char text[TREE_TEXT_MAX + 1] = "", *end;
    uint64_t value, total;

    require(vm && daemon->requests->length > 1 && daemon->requests->length < TREE_TEXT_MAX);
    require(uuid_compare(vm->uuid, host->guests[reader->guest].uuid) == 0);
    memcpy(text, daemon->requests->body, daemon->requests->length);
    value = strtoull(text, &end, 10);
    require(strcmp(end, "\n") == 0);
    total = snapshot_energy_uj(snapshot, vm, reader->zone, host->time_ns);
    require(value == (total - total % 1000) % COUNTER_END);
    /* As readers reckon: what looks like a fall is a wrap. */
    require(!reader->has_read ||
            (value + COUNTER_END - reader->last_uj) % COUNTER_END < COUNTER_END / 2);
    reader->has_read = true;
    reader->last_uj = value;
}

static void read_counter(struct readers *readers, struct reader *reader,
                         const struct soak_daemon *daemon, struct host *host)
{
    const struct fuse_read_in in = {.fh = reader->handle, .size = 4096};
    const struct snapshot *snapshot = snapshot_board_acquire(daemon->board);
    int r = fuse_fixture_send(daemon->requests, FUSE_READ, reader->inode, &in, sizeof(in));

    if (r == 0) {
        check_value(reader, daemon, snapshot, host);
        readers->reads++;
    } else {
        require(r == -ESTALE && !vm_with_tree(snapshot, reader->vm_id));
        readers->stale++;
        close_counter(reader, daemon);
    }
    snapshot_board_release(daemon->board, snapshot);
}

void readers_run(struct readers *readers, const struct soak_daemon *daemon, struct host *host)
{
    for (size_t i = 0; i < READERS_PER_TICK; i++) {
        struct reader *reader = &readers->readers[readers->next++ % READERS];

        if (!reader->open)
            open_counter(reader, daemon, host);
        else if (random_next(&host->random) % 64 == 0)
            close_counter(reader, daemon);
        else
            read_counter(readers, reader, daemon, host);
    }
}

/* @return how many entries a directory has, "." and ".." left out */
static size_t list(struct fuse_fixture *requests, uint64_t directory)
{
    struct fuse_read_in in = {.size = 4096};
    size_t n = 0;

    while (fuse_fixture_send(requests, FUSE_READDIR, directory, &in, sizeof(in)) == 0 &&
           requests->length > 0)
        for (size_t i = 0; i < requests->length; n++) {
            const struct fuse_dirent *entry = (const struct fuse_dirent *)(requests->body + i);

            in.offset = entry->off;
            i += FUSE_DIRENT_SIZE(entry);
        }
    require(requests->error == 0);
    return n - 2;
}

void readers_list(const struct soak_daemon *daemon)
{
    const struct snapshot *snapshot = snapshot_board_acquire(daemon->board);
    size_t trees = 0;

    for (size_t i = 0; i < snapshot->n_vms; i++)
        trees += snapshot->vms[i].has_tree;
    /* The trees, and by-name itself. */
    require(list(daemon->requests, TREE_INODE_ROOT) == trees + 1);
    require(list(daemon->requests, TREE_INODE_BY_NAME) == trees);
    snapshot_board_release(daemon->board, snapshot);
}
