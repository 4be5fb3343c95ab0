/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is known of a meter of the whole machine's power. */

#include <stdbool.h>
#include <stdint.h>

#include "baseline/static_power.h"

#define PLATFORM_METERS_MAX 8

/** What a meter showed last. */
struct platform_reading {
    uint64_t time_ns; /* CLOCK_MONOTONIC; 0: nothing yet */
    uint64_t power_uw;
    uint64_t resolution_uw; /* the meter's step */
};

enum platform_trust {
    PLATFORM_UNKNOWN,       /* nothing is learned from the meter (yet) to judge it by */
    PLATFORM_TRUSTED,       /* it agrees with what was learned from it */
    PLATFORM_SILENT,        /* no new reading for a minute */
    PLATFORM_IMPLAUSIBLE,   /* less than the processors alone draw */
    PLATFORM_FROZEN,        /* it disagrees, and shows the same all the time */
    PLATFORM_DEVIATING,     /* it disagrees by more than a tenth */
    PLATFORM_CONTRADICTING, /* it disagrees by more than a tenth with a meter before it */
};

/** "unknown", "trusted" and so on. */
const char *platform_trust_to_string(enum platform_trust trust);

/** The learned relation platform = a + b * base + c * io, see platform_learner.h. */
struct platform_estimate {
    enum static_state state; /* not STATIC_FIXED */
    bool known;              /* the relation was learned at least once; else the rest is 0 */
    double static_watts;     /* a, >= 0 */
    double static_sigma;     /* standard uncertainties */
    double slope;            /* b, watts per unit of base, > 0 */
    double slope_sigma;
    double io_joules_per_byte; /* c; 0: io does not help */
    double window_s;           /* a reading is the mean over so long */
    double delay_s;            /* ... which ended so long before it */
    double scatter_watts;      /* robust standard deviation of readings around the relation */
};

struct platform_meter {
    struct platform_reading last;
    enum platform_trust trust;
    struct platform_estimate estimate;
};
