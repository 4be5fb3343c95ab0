/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "source/zone.h"
#include "usage/usage.h"

struct attribution_model;

/** How a zone's dynamic energy is divided. One file implements it per model. */
struct attribution_model_ops {
    const char *name;

    /**
     * The entities' weights: their shares are weight / sum of the weights.
     * @param ret  usage_n_entities() weights; their sum is below 2^64, and may be 0
     */
    void (*weights)(const struct attribution_model *model, const struct zone *zone,
                    const struct usage *usage, uint64_t *ret);

    void (*free)(struct attribution_model *model);
};

/** The common head of every model; implementations embed it first. */
struct attribution_model {
    const struct attribution_model_ops *ops;
};

/** Frees the model; NULL is accepted. @return NULL */
struct attribution_model *attribution_model_free(struct attribution_model *model);

/**
 * CPU time: package, core and uncore energy by CPU time on the zone's socket
 * (psys: on all sockets), DRAM energy by resident memory.
 * @return 0 or -ENOMEM
 */
int cputime_model_new(struct attribution_model **ret);
