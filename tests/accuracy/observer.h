/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a program on the simulated host can read: energy counters in a powercap
 * tree, which the project's own reader reads, usage as the eBPF provider gives
 * it, and CPU times as /proc rounds them.
 */

#include "host.h"
#include "source/sample.h"
#include "usage/usage.h"

/** One interval as /proc tells it. Times in seconds, in whole jiffies. */
struct proc_view {
    double seconds;                             /* length of the interval */
    double process_s[ENTITIES_SIM];             /* all of an entity's processes, /proc/PID/stat */
    double thread_s[ENTITIES_SIM][SOCKETS_SIM]; /* the same from each thread's own stat, on the
                                                   socket where the thread last ran */
    double busy_s[SOCKETS_SIM];                 /* /proc/stat: user, nice and system */
    double interrupt_s;                         /* irq and softirq */
};

struct observation {
    struct sample sample;
    struct usage usage; /* to be released with usage_deinit() */
    struct proc_view proc;
};

struct observer;

/** Makes the powercap tree in a temporary directory and opens it. Aborts on failure. */
struct observer *observer_new(struct host *host, uint64_t seed);
struct observer *observer_free(struct observer *observer);

const struct zone_set *observer_zones(const struct observer *observer);

/** Reads everything. The first time there is no interval yet: its sample is invalid. */
void observer_read(struct observer *observer, struct observation *ret);

/** The UUID of an entity; rising with its number. */
void observer_uuid(unsigned entity, uuid_t ret);
