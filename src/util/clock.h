/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC UINT64_C(1000000000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)

/** A clock's time in nanoseconds. */
static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/** CLOCK_MONOTONIC in nanoseconds: the time base of readings, usage and snapshots. */
static inline uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/** Nanoseconds as the kernel's pair of seconds and nanoseconds. */
static inline struct timespec ns_to_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / NSEC_PER_SEC),
        .tv_nsec = (long)(ns % NSEC_PER_SEC),
    };
}

/**
 * How long the machine has been suspended since it was booted, nanoseconds, to
 * the millisecond: by how much CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC.
 */
static inline uint64_t clock_suspended_ns(void)
{
    uint64_t before, boot, after;

    /* No clock gives both times: a pair during which this thread was held up is not used. */
    do {
        before = clock_ns(CLOCK_MONOTONIC);
        boot = clock_ns(CLOCK_BOOTTIME);
        after = clock_ns(CLOCK_MONOTONIC);
    } while (after - before > NSEC_PER_MSEC);
    return boot > after ? boot - after : 0;
}
