/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Hardware counters (PMU) on every CPU: perf events that count all the time,
 * for eBPF programs to read.
 */

#include <stddef.h>
#include <stdint.h>

/** An event to count, in the terms of perf_event_open(2). */
struct cpu_counter {
    uint32_t type;
    uint64_t config;
};

struct cpu_counters;

/**
 * Opens one event of each kind on every CPU that is online.
 * @param counters    n of them; must outlive the object
 * @param n_cpus      CPUs that are online or may come online
 * @param ret_in_use  bit per counter that the machine has
 * @return 0 or -ENOMEM
 */
int cpu_counters_new(struct cpu_counters **ret, const struct cpu_counter *counters, size_t n,
                     size_t n_cpus, unsigned *ret_in_use);
struct cpu_counters *cpu_counters_free(struct cpu_counters *counters);

/** Opens all events anew, after CPUs came or went: an event ends when its CPU goes offline. */
void cpu_counters_reopen(struct cpu_counters *counters);

/** The event's descriptor, or -1. */
int cpu_counters_fd(const struct cpu_counters *counters, size_t counter, size_t cpu);
