/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

/*
 * How long each CPU was busy: the time that passed less idle, iowait and steal
 * of /proc/stat. The kernel measures idle time at its edges, in nanoseconds,
 * and only prints it in clock ticks, while it samples user and system time at
 * ticks and so misses short bursts. The part of a tick that the printing cuts
 * off is not lost: the totals are cumulative, and it shows in a later interval.
 */
struct cpu_busy;

/** @return 0, or a negative errno when proc_root/stat cannot be read (logged) */
int cpu_busy_new(struct cpu_busy **ret, const char *proc_root);
struct cpu_busy *cpu_busy_free(struct cpu_busy *busy);

/** Reads the state at time_ns (CLOCK_MONOTONIC). @return 0 or a negative errno */
int cpu_busy_update(struct cpu_busy *busy, uint64_t time_ns);

/** Highest CPU number seen + 1. */
size_t cpu_busy_count(const struct cpu_busy *busy);

/** CPUs online at the last update. */
size_t cpu_busy_online(const struct cpu_busy *busy);

/** How often a CPU came online: when this has changed, sysfs may know more CPUs' sockets. */
uint64_t cpu_busy_arrivals(const struct cpu_busy *busy);

/** Appends the state as of the last update, for cpu_busy_restore(). @return 0 or -ENOMEM */
int cpu_busy_save(const struct cpu_busy *busy, struct buffer *ret);

/**
 * Continues from a state that a former process saved, in place of the state
 * after cpu_busy_new(): the next update covers the time since the saved state.
 * If a CPU went offline and returned meanwhile, that time counts as busy.
 * @param bytes  untrusted; the state is taken from it
 * @return 0, or -EBADMSG, then nothing has changed
 */
int cpu_busy_restore(struct cpu_busy *busy, struct bytes *bytes, uint64_t time_ns);

/** Total busy time of a CPU since cpu_busy_new(), nanoseconds, never decreasing. */
uint64_t cpu_busy_ns(const struct cpu_busy *busy, size_t cpu);
