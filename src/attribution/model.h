/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The attribution models: how a zone's dynamic energy is divided.
 *
 *     cputime   CPU time on the zone's socket; DRAM by traffic or residency
 *     counters  cycles, instructions and cache misses, weighed by what is learned of the zones
 *     curve     the Shapley value of a concave power curve of CPU time
 *     fitted    a sum of features with weights from a file
 *
 * Each takes the usage of one interval and gives each entity one whole weight;
 * only ratios of weights matter. Core and uncore energy is divided like
 * package energy, psys energy like that of one package with all sockets. In an
 * interval for which a model has no data, every weight 0, it falls back to
 * cputime, so that energy is unattributed only if no entity used CPU time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/sample.h"
#include "source/zone.h"
#include "usage/usage.h"

/** The options of all models. */
struct model_options {
    /**
     * Power of a core with both hyperthreads busy over one with a single busy one, 1 to 2: about
     * 1.1 by Zhai et al., "HaPPy: Hyperthread-aware Power Profiling Dynamically", USENIX ATC 2014.
     */
    double smt_power_ratio;
    /**
     * The exponent of the model curve's power curve, above 0 and up to 1. 0.98 fits the dynamic
     * package power of a published series of 23 scenarios on one server, nearly a straight line;
     * EnergAt (HotCarbon 2023) takes 0.3 for CPUs.
     */
    double curve_exponent;
};

#define MODEL_OPTIONS_DEFAULT                                                                      \
    ((struct model_options){.smt_power_ratio = 1.1, .curve_exponent = 0.98})

struct attribution_model;

/** One file implements it per model. */
struct attribution_model_ops {
    const char *name;
    bool by_cycles; /* what a VM is charged for its CPU time depends on the clock */

    /**
     * Takes in an interval before it is divided, for a model that learns from the zones. Optional.
     * @param slot    the zone's
     * @param sample  valid, without a gap
     */
    void (*learn)(struct attribution_model *model, size_t slot, const struct zone *zone,
                  const struct sample_zone *sample, const struct usage *usage);

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
    struct model_options options;
};

/** Frees the model; NULL is accepted. @return NULL */
struct attribution_model *attribution_model_free(struct attribution_model *model);

/** The models that have a name, a row each: NAME_model_new() in "attribution/NAME.c" makes it. */
#define ATTRIBUTION_MODELS(MODEL) MODEL(cputime) MODEL(counters) MODEL(curve)

/* @param options  copied, here and by fitted_model_new(). @return 0 or -ENOMEM */
#define ATTRIBUTION_MODEL_NEW(name)                                                                \
    int name##_model_new(const struct model_options *options, struct attribution_model **ret);
ATTRIBUTION_MODELS(ATTRIBUTION_MODEL_NEW)

/**
 * A model from a file (fitted.h).
 * @return 0, -EINVAL for the content, or the errno of reading the file; logged
 */
int fitted_model_new(const char *path, const struct model_options *options,
                     struct attribution_model **ret);

/** Is it the name of a row of ATTRIBUTION_MODELS, or an absolute path? */
bool attribution_model_is_name(const char *name);

/**
 * The model of that name, or the fitted one in the file at that path.
 * @return 0 or a negative errno as from the constructor, -EINVAL for another name
 */
int attribution_model_open(const char *name_or_path, const struct model_options *options,
                           struct attribution_model **ret);
