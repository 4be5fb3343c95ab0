/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The parts of the models: real weights of one entity each, and the one way from
 * real weights to the whole weights that the ledger divides by.
 *
 * Real weights are computed in floating point from unsigned 64-bit usage and
 * bounded coefficients; they are finite and not negative. To become whole
 * they are all multiplied by the same power of two, such that the largest gets
 * as many bits as the sum allows: at least 41 with fewer than 2^22 entities, so
 * that every weight is exact to 2^-40 of the largest.
 */

#include "attribution/model.h"

/**
 * Allocates a model of that size, zeroed beyond its head.
 * @return 0 or -ENOMEM
 */
int model_new(size_t size, const struct attribution_model_ops *ops,
              const struct model_options *options, struct attribution_model **ret);

/** The free() of a model that owns nothing beyond its own memory. */
void model_free(struct attribution_model *model);

/** One zone in one interval. */
struct weighing {
    const struct attribution_model *model;
    const struct zone *zone;
    const struct usage *usage;
};

/** An entity's real weight, finite and >= 0. */
typedef double (*weight_function)(const struct weighing *weighing,
                                  const struct usage_amount *amount);

/**
 * The whole weights of all entities.
 * @param ret  usage_n_entities() weights; their sum is below 2^63
 * @return whether one of them is above 0
 */
bool weigh(const struct weighing *weighing, weight_function weight, uint64_t *ret);

/** The weights of the model cputime, to which the others fall back. */
void weigh_by_cputime(const struct weighing *weighing, uint64_t *ret);

/**
 * The binary exponent for weight_quantise().
 * @param largest  the largest of n real weights, above 0
 */
int weight_exponent(double largest, size_t n);

/** The whole weight, weight * 2^exponent rounded down. */
uint64_t weight_quantise(double weight, int exponent);

/** The part of the CPU time with a busy SMT sibling, 0 to 1; 0 without CPU time. */
double corun_part(const struct usage_socket *used);

/**
 * The weight of a unit of use of a core under SMT: alone 1, with a busy sibling half of what the
 * core then draws, so that both together make up smt_power_ratio.
 */
double smt_factor(const struct usage_socket *used, const struct model_options *options);

/** CPU time on the zone's socket, nanoseconds, weighed for SMT. */
double cpu_time_weight(const struct weighing *weighing, const struct usage_amount *amount);
