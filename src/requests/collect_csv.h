/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The rows that weights are fitted from: what all tasks did in one interval, and
 * the energy of that interval.
 */

#include <stdint.h>
#include <stdio.h>

#include "requests/request_config.h"
#include "requests/request_programs.h"

/** One interval. */
struct collect_row {
    uint64_t sample_time_ns; /* CLOCK_REALTIME of the interval's end */
    enum attribution_mode mode;
    uint64_t interval_ns;
    uint64_t interval_psys_uj; /* as the tree counted it */
    uint64_t active_psys_uj;   /* of that: what is above the idle power */
    uint64_t idle_uj;          /* the rest */
    uint64_t total_score;      /* work of all tasks, by the weights, rounded down */
    uint64_t runtime_ns;
    uint64_t wakeups;
    uint64_t cycles; /* 0 without a counter for it, and so on */
    uint64_t instructions;
    uint64_t cache_misses;
    uint64_t migrations;
    size_t n_frequencies;
    const struct request_frequency_time *frequencies; /* empty without cpufreq */
};

/** Writes the line of column names. @return 0 or -EIO */
int collect_csv_write_header(FILE *stream);

/**
 * Writes one row and flushes it, so that a reader sees whole rows.
 * freq_runtime_ns is "800000:12;1800000:345", kHz and nanoseconds.
 * @param label  any text; quoted after RFC 4180 where that is necessary
 * @return 0 or -EIO
 */
int collect_csv_write_row(FILE *stream, const char *label, const struct collect_row *row);
