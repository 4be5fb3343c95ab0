/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The immutable view of the ledger that publishers read. The daemon makes one
 * per tick; publishers on other threads hold a reference while they read it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "baseline/static_power.h"
#include "discovery/vm.h"
#include "platform/platform_meter.h"
#include "source/zone.h"

/** The zones a guest sees. Each is the sum of the host's zones of its kind. */
enum tree_zone {
    TREE_PACKAGE,
    TREE_CORE,
    TREE_DRAM,
    TREE_PSYS, /* only with platform = psys */
    TREE_ZONES,
};

/* The range of a client part's counter with the 61 uJ unit, as the kernel reports it. Readers
   take it for a wrap when a value falls, so it is constant and like real hardware's. */
#define TREE_MAX_ENERGY_UJ UINT64_C(262143328850)

/** A published counter runs evenly from one total to the next over the ramp's time. */
struct ramp {
    uint64_t from_uj;
    uint64_t to_uj; /* >= from_uj */
};

/** from + (to - from) * (time - start) / length; from before the ramp, to after it. */
uint64_t ramp_value(const struct ramp *ramp, uint64_t start_ns, uint64_t length_ns,
                    uint64_t time_ns);

struct snapshot_vm {
    uint32_t id; /* stable for the UUID, never reused; > 0 */
    uuid_t uuid;
    char uuid_text[UUID_TEXT_SIZE]; /* lower case */
    char name[VM_NAME_MAX];         /* any bytes but NUL; no other VM's, see snapshot_name_vms() */
    enum vm_manager manager;
    bool trusted;
    bool running;
    bool has_tree; /* defined, running, prepared, or restored and awaited: its directory exists */
    unsigned vcpus;
    unsigned tree_zones; /* bit per enum tree_zone; constant while the VM runs */
    struct ramp tree[TREE_ZONES];
    uint64_t dynamic_uj[ZONES_MAX]; /* by zone slot: totals */
    uint64_t static_uj[ZONES_MAX];  /* the part of the static energy that the policy gives it */
    uint64_t cpu_ns;                /* total over all sockets */
    uint64_t memory_bytes;
    uint64_t io_bytes;   /* total */
    uint64_t tree_reads; /* reads of the VM's files, as of the tick */
};

/** One row per host zone; measured = sum of the VMs' dynamic + host + static + unattributed. */
struct snapshot_zone {
    struct zone zone;
    bool readable; /* it was read at this tick */
    uint64_t measured_uj;
    uint64_t host_uj;
    uint64_t static_uj;
    uint64_t unattributed_uj;
    struct static_power static_power;
};

/* Upper bounds of the tick duration histogram, seconds; +Inf follows. */
#define TICK_BUCKETS 8
extern const double tick_bucket_seconds[TICK_BUCKETS];

/** The daemon's own health. */
struct snapshot_health {
    uint64_t ticks;
    uint64_t ticks_missed;
    uint64_t tick_buckets[TICK_BUCKETS + 1]; /* ticks per bucket, not cumulated */
    uint64_t tick_ns_sum;
    uint64_t unlisted_processes; /* of VMs, counted to the host for want of room */
    uint64_t unlisted_vms;       /* their usage counts to the host, or they are off */
    uint64_t unlisted_sockets;   /* of VMs: helpers on them count to the host */
    uint64_t rows_dropped;       /* of ended VMs, before their time */
};

/** A meter of the whole machine's power. */
struct snapshot_meter {
    const char *source; /* static strings */
    const char *state;  /* the result of the last attempt to read it */
    struct platform_meter known;
    bool used; /* the platform's energy follows this meter */
};

struct snapshot {
    uint64_t time_ns;       /* CLOCK_MONOTONIC of the sample */
    uint64_t ramp_start_ns; /* CLOCK_MONOTONIC at which the ramps begin */
    uint64_t interval_ns;   /* the configured interval: the ramps' length */
    const char *source;     /* static strings */
    const char *usage_provider;
    const char *model;
    const char *static_policy;
    bool estimate;
    size_t n_zones;
    struct snapshot_zone zones[ZONES_MAX];
    size_t n_meters;
    struct snapshot_meter meters[PLATFORM_METERS_MAX];
    struct snapshot_health health;
    size_t n_vms;
    struct snapshot_vm *vms; /* sorted by UUID */
    uint32_t *by_id;         /* n_vms indices into vms, sorted by id */
    int references;          /* used by snapshot_board only */
};

/** An empty snapshot with room for n_vms VMs; NULL when out of memory. */
struct snapshot *snapshot_new(size_t n_vms);

/** Frees the snapshot with its vms and by_id, all from malloc(); NULL is accepted. @return NULL */
struct snapshot *snapshot_free(struct snapshot *snapshot);

/**
 * Makes a file name of a VM's name: '/', control bytes, a leading '.', and
 * bytes that are not UTF-8 turn into '_', an empty name too; longer ones are cut
 * between characters.
 */
void snapshot_file_name(const char *name, char ret[VM_NAME_MAX]);

/**
 * Gives each VM a name that no other has, not even as a file's. Of several with one
 * name the first keeps it: a trusted one before others, one whose tree is there before one
 * that is gone, then the one that was known first. The others get "<name>@<uuid>". A name
 * that ends like that by itself has its '@' replaced.
 * @return 0 or -ENOMEM
 */
int snapshot_name_vms(struct snapshot *snapshot);

/** The VM of that UUID, or NULL. O(log n). */
const struct snapshot_vm *snapshot_find_uuid(const struct snapshot *snapshot, const uuid_t uuid);

/** The VM of that id, or NULL. O(log n). */
const struct snapshot_vm *snapshot_find_id(const struct snapshot *snapshot, uint32_t id);

/** Position in by_id of the first VM whose id is not below the given one; n_vms when none. */
size_t snapshot_seek_id(const struct snapshot *snapshot, uint64_t id);

/**
 * A VM's published total at a moment, which is the value of its ramp.
 * @return microjoules, never decreasing in time nor over successive snapshots, not wrapped
 */
uint64_t snapshot_energy_uj(const struct snapshot *snapshot, const struct snapshot_vm *vm,
                            enum tree_zone zone, uint64_t time_ns);

/** Hands the newest snapshot from the tick to the publishers. Thread-safe. */
struct snapshot_board;

/** @return 0 or -ENOMEM */
int snapshot_board_new(struct snapshot_board **ret);

/**
 * Frees the board and its current snapshot, after every publisher has stopped;
 * NULL is accepted. @return NULL
 */
struct snapshot_board *snapshot_board_free(struct snapshot_board *board);

/** Makes a snapshot the current one; the board takes over the caller's reference. */
void snapshot_board_post(struct snapshot_board *board, struct snapshot *snapshot);

/** The current snapshot, to be returned with snapshot_board_release(); NULL before the first. */
const struct snapshot *snapshot_board_acquire(struct snapshot_board *board);
/** Gives a reference back; NULL is accepted. */
void snapshot_board_release(struct snapshot_board *board, const struct snapshot *snapshot);
