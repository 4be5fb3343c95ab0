/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The simulated host of the soak: VMs that come and go, and the energy counters
 * of two packages, whose true totals are known.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uuid/uuid.h>

#include "../lib/random.h"
#include "discovery/vm.h"
#include "source/sample.h"
#include "usage/usage.h"

#define DAYS 6
#define TICKS_PER_DAY 86400
#define TICKS ((uint64_t)DAYS * TICKS_PER_DAY)
/* At the end of a day all VMs but the lasting ones stop: what they held must be given back. */
#define QUIET_TICKS 1400
#define LIVES 100000
#define GUESTS 20000 /* UUIDs: each lives several times */
#define LASTING 5    /* VMs that run all the time: their counters wrap */
#define DEFINED 40   /* guests that libvirt knows while they are off */
#define HOST_ZONES 5
#define ZONE_PSYS_FROM 3600 /* ticks: it is found later than the others */

/** A VM, on or off. */
struct guest {
    uuid_t uuid;
    char name[VM_NAME_MAX]; /* not unique */
    unsigned vcpus;
    unsigned load; /* percent of its vCPUs */
    pid_t pid;     /* 0: off */
    uint64_t start_ticks;
    uint64_t until; /* the tick at which it ends */
};

/** A counter of the host. */
struct host_zone {
    struct zone zone;
    uint64_t total_uj; /* the truth */
    uint64_t boot_uj;  /* as of the last boot, when it began at 0 */
    uint64_t absent_until;
};

struct host {
    struct random random;
    uint64_t tick;
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    struct guest guests[GUESTS];
    uint32_t running[GUESTS]; /* in the order of their starts, so of their PIDs */
    size_t n_running;
    size_t most_running;
    uint32_t ended[GUESTS]; /* in this interval */
    size_t n_ended;
    bool changed; /* VMs came or went in this interval */
    pid_t last_pid;
    uint64_t lives;
    struct host_zone zones[HOST_ZONES];
    uint64_t absences;
    uint64_t wraps;
    uint64_t late_ticks;
};

struct host *host_new(uint64_t seed);

/** One interval: a second, or some when the tick comes late. */
void host_step(struct host *host);

/** The host is down for a while, and its counters begin at 0. */
void host_reboot(struct host *host);

/** The tick is one of a day's last, when only the lasting VMs run. */
bool host_is_quiet(const struct host *host);

/** Can the counter be read now? */
bool host_zone_is_there(const struct host *host, size_t zone);

struct reading host_read(const struct host *host, size_t zone);

/** Which guest a UUID is. */
uint32_t host_guest_of(const uuid_t uuid);

/** What the VMs used in the interval, those that ended in it as well. */
void host_usage(struct host *host, struct usage *ret);

/** As discovery makes it: of processes and libvirt's domains. */
void host_discover(const struct host *host, struct vm_table *ret);
