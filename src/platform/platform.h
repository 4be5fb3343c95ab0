/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The energy of the whole machine, interval by interval, from meters that are
 * late and coarse:
 *
 *     loads, meters' readings --(platform_learner)--> platform = a + b * base + c * io
 *         --(every interval)--> a sample of one more zone, as if a counter had been read
 *
 * The relation gives each interval's energy at once; the sum follows the meter:
 * what a reading is above or below the relation is owed, and paid over the
 * next minutes, never more in an interval than a part of its energy. So the
 * energy is never negative, and no more is paid than the meter has shown.
 *
 * A meter is believed as long as it agrees with what was learned from it. One
 * that falls silent, freezes or lies is not listened to, and the relation goes
 * on for PLATFORM_EXTRAPOLATE_S. Then there is no energy, until it answers
 * again, or until what it tells has been learned anew.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/platform_learner.h"
#include "platform/platform_meter.h"
#include "source/sample.h"

/** How long the relation goes on without a meter that is believed. */
#define PLATFORM_EXTRAPOLATE_S 600

/** What the machine did in an interval. */
struct platform_interval {
    uint64_t end_ns; /* CLOCK_MONOTONIC */
    uint64_t duration_ns;
    struct platform_load load;
    bool is_power; /* load.base is watts that the platform's contain */
};

struct platform;

/**
 * @param n  meters, 1 to PLATFORM_METERS_MAX: the first that is believed is used
 * @return 0 or -ENOMEM
 */
int platform_new(struct platform **ret, size_t n);
/** NULL is accepted. @return NULL */
struct platform *platform_free(struct platform *platform);

/** Goes on with what an earlier process learned of a meter: believed when a reading agrees. */
void platform_restore(struct platform *platform, size_t meter,
                      const struct platform_estimate *estimate);

/**
 * Takes in one interval, and what the meters said until its end.
 * @param interval  its duration is above 0
 * @param readings  n of them; one whose time is not later than the last one's is the same
 * @return the energy of the platform, invalid when nothing can be said
 */
struct sample_zone platform_advance(struct platform *platform,
                                    const struct platform_interval *interval,
                                    const struct platform_reading *readings);

/** What is known of a meter. */
const struct platform_meter *platform_get_meter(const struct platform *platform, size_t meter);

/** The meter whose relation gave the last interval's energy; NULL: there was none. */
const struct platform_meter *platform_used(const struct platform *platform);
