/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* All results of a run, and the limits that they must keep. */

#include "laboratory.h"
#include "platform.h"
#include "trace.h"

#define TRACE_SEEDS 3

/* Percent. */
#define LIMIT_KNOWN 1.0
#define LIMIT_LEARNED 3.0
#define LIMIT_DRAM 10.0
#define LIMIT_STATIC 5.0
#define LIMIT_PLATFORM 5.0
/* After this many seconds of trace. */
#define LEARN_S 600

struct results {
    uint64_t seed;
    size_t n;
    unsigned n_seeds; /* of each trace */
    struct result *scenarios;
    struct trace_result (*traces)[TRACE_SEEDS]; /* by trace and seed */
    struct platform_result platform[PLATFORM_CASES];
};

struct limit {
    const char *what;
    double value, limit; /* kept if value <= limit */
    const char *unit;
};

#define LIMITS_MAX 8

/** @return how many limits there are */
size_t verdict_limits(const struct results *results, struct limit ret[LIMITS_MAX]);

/** Mean of the scenarios' errors, of one group, or of all with group GROUPS; NAN when none has
 *  DRAM. */
double mean_error(const struct results *results, unsigned contender, enum group group, bool dram);

/** Watts that the thesis' formula gives all VMs together. */
double thesis_sum(const struct result *result);

/** The mean absolute percentage error of the learned static power from a moment on. */
double trace_mean_error(const struct trace_result *result, double from_s);

/** The largest static watts over the mean of those measured, percent, where nothing can be
 *  learned. */
double trace_unsafe(const struct trace_result *result);
