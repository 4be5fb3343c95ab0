/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "source/energy_source.h"

/** Power of a machine without sensors as a function of its utilisation u, 0 to 1. */
struct estimate_curve {
    uint64_t idle_uw; /* at u = 0 */
    uint64_t max_uw;  /* at u = 1; >= idle_uw */
    double exponent;  /* > 0; 1 is a straight line */
};

/**
 * An energy source without hardware: integrates
 *
 *     P(u) = idle + (max - idle) * u^exponent
 *
 * over the busy time of all CPUs into one zone, "package-0". The form is that
 * of Fan, Weber and Barroso, "Power provisioning for a warehouse-sized
 * computer", ISCA 2007, section 4. The energy is labelled as an estimate wherever
 * it is shown.
 *
 * @param proc_root  where stat is, "/proc"
 * @return 0 or a negative errno (no stat file, out of memory); logged
 */
int estimate_new(struct energy_source **ret, const struct estimate_curve *curve,
                 const char *proc_root);

/** P(u), microwatts; u outside 0 to 1 is clamped. */
double estimate_power_uw(const struct estimate_curve *curve, double utilisation);
