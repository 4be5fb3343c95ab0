/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Makes the rows of collect_csv.h: the energy of an interval beside the work of
 * the same interval.
 *
 *     totals of work --(kept for as long as the tree is late)--+
 *                                                              +--> rows
 *     energy, late by the tree's delay ------------------------+
 */

#include "requests/powercap_reader.h"
#include "requests/request_config.h"
#include "requests/request_programs.h"

struct collector;

/**
 * Creates the file, or empties it.
 * @param label  any text; must outlive the collector, as must the configuration
 * @return 0 or a negative errno; the reason is logged
 */
int collector_new(struct collector **ret, const char *path, const char *label,
                  const struct request_config *config);

/** What all tasks did up to one moment. */
struct collect_work {
    struct request_totals totals;
    size_t n_frequencies; /* empty without cpufreq */
    struct request_frequency_time frequencies[REQUEST_FREQUENCIES_MAX];
};

/**
 * Adds what one tick has read, and writes a row if the energy is known. An
 * interval whose energy is unknown becomes part of the next one; after a reset of the
 * counter a new interval begins.
 * @param time_ns  CLOCK_MONOTONIC, growing
 */
void collector_add(struct collector *collector, uint64_t time_ns, const struct collect_work *work,
                   const struct powercap_energy *energy);

/** NULL is accepted. @return NULL */
struct collector *collector_free(struct collector *collector);
