/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "source/zone.h"
#include "usage/usage.h"

/** How a zone's dynamic energy is divided. One file implements it per model. */
struct attribution_model {
    const char *name;

    /**
     * The entities' weights: their shares are weight / sum of the weights.
     * @param entities  n entities; the first is the host
     * @param ret       n weights; their sum is below 2^64, and may be 0
     */
    void (*weights)(const struct zone *zone, const struct usage_amount *const *entities, size_t n,
                    uint64_t *ret);
};

/**
 * CPU time: package, core and uncore energy by CPU time on the zone's socket
 * (psys: on all sockets), DRAM energy by resident memory.
 */
extern const struct attribution_model attribution_model_cputime;
