/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the load generator saw, by target, in bounded memory. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "answer.h"
#include "mix.h"

/** Buckets of times: 64 to each doubling, so that a percentile is right within 1.6 %. */
#define SUMMARY_BUCKETS (64 * 40)

struct summary_row {
    uint64_t answers;
    uint64_t not_2xx;
    uint64_t bytes; /* of bodies */
    uint64_t energy_missing, energy_wrong;
    uint64_t energy_n, energy_sum_uj, energy_min_uj, energy_max_uj;
    uint64_t time_sum_us, time_max_us;
    uint64_t times[SUMMARY_BUCKETS];
};

/** Zero-initialised. */
struct summary {
    uint64_t connections, errors; /* connections that failed, or ended in the middle of an answer */
    struct summary_row rows[MIX_MAX]; /* of the mix's entries */
};

void summary_add(struct summary *summary, size_t entry, const struct answer *answer,
                 uint64_t time_us);

/** Adds what another thread saw. */
void summary_merge(struct summary *summary, const struct summary *other);

/** The time that a part of the answers took at most, microseconds. @param part  0 to 1 */
uint64_t summary_percentile(const struct summary_row *row, double part);

/** As one JSON object. @return 0, -ENOMEM or -EIO */
int summary_print(FILE *stream, const struct summary *summary, const struct mix *mix,
                  uint64_t duration_ns);
