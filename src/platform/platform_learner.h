/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A machine's power in terms of its processors' power, learned from a power
 * meter while VMs run:
 *
 *     platform = a + b * base + c * io
 *
 * base is the RAPL power of packages and memory, or the busy cores where there
 * is no RAPL; io the bytes per second of block devices, left out unless the
 * meter shows that they cost power. A master thesis found 177.8 W + 1.334 x
 * RAPL with R2 0.998 on its host.
 *
 * A meter is late and coarse: it shows the mean power of some seconds that ended
 * some seconds ago, in whole watts, and repeats it until it has measured anew.
 * So a reading counts when it has changed, or has stood for longer than any
 * meter takes to update; and it is compared with the mean of base over a window
 * of its past. Delay and length of the window are those that leave the smallest
 * residuals. The moment in that window at which the meter measured is unknown:
 * this makes an error of base around its mean, independent of the mean (Berkson,
 * J. Am. Stat. Assoc. 45, 1950), which leaves the slope unbiased, and readings
 * after a steady load count for more.
 *
 * The fit is by iterated weighted least squares with Huber's weights (Annals of
 * Mathematical Statistics 35, 1964); readings lose weight with age.
 */

#include <stdbool.h>
#include <stdint.h>

#include "platform/platform_meter.h"

/** The mean load of the machine in an interval. Finite, >= 0. */
struct platform_load {
    double base; /* watts of RAPL, or busy cores */
    double io;   /* bytes per second */
};

struct platform_learner;

/** @return 0 or -ENOMEM */
int platform_learner_new(struct platform_learner **ret);
/** NULL is accepted. @return NULL */
struct platform_learner *platform_learner_free(struct platform_learner *learner);

/**
 * Takes in one interval.
 * @param end_ns       CLOCK_MONOTONIC, increasing from call to call
 * @param duration_ns  above 0; the load of time that no interval covers stays unknown
 */
void platform_learner_add_load(struct platform_learner *learner, uint64_t end_ns,
                               uint64_t duration_ns, const struct platform_load *load);

/**
 * Takes in a plausible reading of the meter.
 * @param time_ns        CLOCK_MONOTONIC at which it was read, increasing
 * @param power_uw       above 0
 * @param resolution_uw  the meter's step
 */
void platform_learner_add_reading(struct platform_learner *learner, uint64_t time_ns,
                                  uint64_t power_uw, uint64_t resolution_uw);

/**
 * Goes on with the relation that an earlier process learned.
 * @param estimate  known; its window and delay among those that are tried
 */
void platform_learner_restore(struct platform_learner *learner,
                              const struct platform_estimate *estimate);

/** Forgets the relation and all readings. */
void platform_learner_forget(struct platform_learner *learner);

/** The relation as it is known now. */
struct platform_estimate platform_learner_estimate(const struct platform_learner *learner);

/**
 * The reading that the relation expects at a moment.
 * @param time_ns  CLOCK_MONOTONIC, not after the last interval's end
 * @return false when nothing is learned yet, or not all loads of its window are known
 */
bool platform_learner_expect(const struct platform_learner *learner, uint64_t time_ns,
                             double *ret_watts);
