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
 * the amount by which a reading is above or below the relation is owed, and paid
 * over the next minutes, never more in an interval than a part of its energy. So
 * the energy is never negative, and no more is paid than the meter has shown.
 *
 * A meter is believed as long as it agrees with the relation learned from it. A
 * meter that falls silent, freezes or lies is ignored, and the relation goes on
 * for PLATFORM_EXTRAPOLATE_S. Then there is no energy until the meter agrees
 * again, or until the relation has been learned anew from its readings.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/platform_learner.h"
#include "platform/platform_meter.h"
#include "source/sample.h"

/** How long the relation goes on without a meter that is believed. */
#define PLATFORM_EXTRAPOLATE_S 600

/** One interval. */
struct platform_interval {
    uint64_t end_ns; /* CLOCK_MONOTONIC */
    uint64_t duration_ns;
    struct platform_load load;
    bool is_power; /* load.base is watts, which the platform's power contains */
};

struct platform;

/**
 * @param n  meters, 1 to PLATFORM_METERS_MAX: the first that is believed is used
 * @return 0 or -ENOMEM
 */
int platform_new(struct platform **ret, size_t n);
/** NULL is accepted. @return NULL */
struct platform *platform_free(struct platform *platform);

/**
 * Goes on with the relation that an earlier process learned; it is used once a reading agrees.
 * @param meter  below n
 */
void platform_restore(struct platform *platform, size_t meter,
                      const struct platform_estimate *estimate);

/**
 * Takes in one interval, and the meters' readings until its end.
 * @param interval  its duration is above 0
 * @param readings  n of them; a reading whose time is not later than the last one's is ignored
 * @return the energy of the platform, invalid when it is not known
 */
struct sample_zone platform_advance(struct platform *platform,
                                    const struct platform_interval *interval,
                                    const struct platform_reading *readings);

/** The last reading, trust and relation of a meter. @param meter  below n */
const struct platform_meter *platform_get_meter(const struct platform *platform, size_t meter);

/** The meter whose relation gave the last interval's energy; NULL: there was none. */
const struct platform_meter *platform_used(const struct platform *platform);
