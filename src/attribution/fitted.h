/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Model files: weights that were fitted to one host's measurements.
 *
 *     [package]
 *     cpu_seconds = 8.25
 *     corun_seconds = 4.6
 *     llc_misses = 1.9e-8
 *     [dram]
 *     llc_misses = 2.4e-8
 *
 * One section per kind of zone: package, core, uncore, dram, psys. The weight
 * of an entity is the sum of its features, each times the number given, which
 * is 0 where none is given:
 *
 *     cpu_seconds    CPU time with an idle SMT sibling
 *     corun_seconds  CPU time with a busy SMT sibling; where it is not given, such a second counts
 *                    smt_power_ratio / 2 of cpu_seconds
 *     cycles, instructions, llc_misses
 *     memory_bytes   resident on the socket's NUMA nodes
 *     io_bytes       read from and written to block devices
 *
 * The two kinds of CPU time are apart so that numbers >= 0, as a non-negative
 * fit gives them, can express that a shared core draws less than two. Units
 * are free, joules for example: only ratios within a section matter. Where a
 * section is absent, [package] holds for core, uncore and psys, and the model
 * cputime for the rest.
 */

#include <stdbool.h>

#include "source/zone.h"
#include "util/config_text.h"

enum feature {
    FEATURE_CPU_SECONDS,
    FEATURE_CORUN_SECONDS,
    FEATURE_CYCLES,
    FEATURE_INSTRUCTIONS,
    FEATURE_LLC_MISSES,
    FEATURE_MEMORY_BYTES,
    FEATURE_IO_BYTES,
    FEATURES,
};

/** One section: numbers in [0, 1), the largest at least 0.5, their ratios as in the file. */
struct fitted_section {
    unsigned given; /* bit per enum feature; 0: the section is absent */
    double weights[FEATURES];
};

/** A whole file, by enum zone_kind. */
struct fitted_weights {
    struct fitted_section sections[ZONE_KINDS];
};

/**
 * Reads the text of a model file.
 * @param text  need not be NUL-terminated
 * @return 0, or -EINVAL and the first error
 */
int fitted_parse(const char *text, size_t length, struct fitted_weights *ret,
                 struct config_error *ret_error);
