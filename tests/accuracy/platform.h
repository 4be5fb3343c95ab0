/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A simulated host with a power meter: what is said of its VMs' part of the whole machine. */

#include <stdint.h>

/** How the meter is. It shows whole watts, and is read every 5 s. */
struct platform_case {
    unsigned delay_s;
    unsigned update_s; /* it measures anew so often */
};

#define PLATFORM_CASES 9
extern const struct platform_case platform_cases[PLATFORM_CASES];

/** The truth: platform = static + slope x RAPL + io x bytes. */
#define PLATFORM_STATIC_WATTS 45.0
#define PLATFORM_SLOPE 1.3
#define PLATFORM_IO_JOULES 2e-8

/** Minutes of learning, and then of comparing. */
#define PLATFORM_LEARN_MINUTES 60
#define PLATFORM_WINDOW_MINUTES 10

struct platform_result {
    double mean_error, largest_error; /* of the VMs' dynamic energy, percent */
    double sum_error;                 /* of the whole machine's energy, percent */
    double static_watts, slope, io_joules;
    double delay_s; /* to the middle of what a reading tells of */
};

/** Runs all cases on one host. Aborts when a row of the ledger is lost. */
void platform_run(uint64_t seed, struct platform_result ret[PLATFORM_CASES]);
