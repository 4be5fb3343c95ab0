/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Long traces of one host, to see how its static power is learned. */

#include <stdbool.h>
#include <stdint.h>

#include "baseline/static_power.h"
#include "host.h"

#define TRACE_POINTS_MAX 8000

struct trace {
    const char *name;
    enum machine_id machine;
    double seconds;
    double low, high;       /* load of the whole machine, as parts of it */
    double spread;          /* the VMs' own part in its variation */
    double kelvin_per_hour; /* by which the air at the machine warms up */
    double quiet_s;         /* load varies so long, then it is constant; 0: it always varies */
};

enum trace_id {
    TRACE_NEVER_IDLE,
    TRACE_NEVER_IDLE_SERVER,
    TRACE_DRIFT,
    TRACE_CONSTANT,
    TRACE_CONSTANT_LATER,
    TRACES,
};

extern const struct trace traces[TRACES];

/** Of the VMs of a trace: servers in bursts, all busy at the same times. */
extern const struct workload trace_load;

/** Of package-0, second by second. */
struct trace_point {
    double seconds, busy_threads;
    double measured_watts, static_watts, learned_watts;
    enum static_state state;
    bool known; /* something has been learned */
};

struct trace_result {
    unsigned n;
    struct trace_point points[TRACE_POINTS_MAX];
};

void trace_run(const struct trace *trace, uint64_t seed, struct trace_result *ret);

/** Absolute percentage error of the learned static power at a moment; infinite if none is known. */
double trace_error(const struct trace_result *result, double seconds);

/** The largest from a moment on. */
double trace_largest_error(const struct trace_result *result, double from_s);
