/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Package, core, uncore and psys energy by what the cores did:
 *
 *     weight = b . (core time, cycles * (1, f, f^2), instructions * (1, f, f^2), misses)
 *
 * Cycles carry time and frequency, instructions how much of a core was at work,
 * last-level cache misses the way to memory and back. What a cycle or an
 * instruction takes grows with the square of the voltage, which rises in a line
 * with the frequency f, an entity's cycles over its CPU time: the square of a
 * line has these three terms. Time and
 * cycles with a busy SMT sibling count half: the core spends them once.
 *
 * The coefficients b are the host's own. They are learned from its intervals by
 * least squares of each zone's power on the features of all entities together,
 * not below zero, with a free constant, so that the static power need not be
 * known. A ridge draws them to a published relation as far as the intervals
 * differ too little to show them: on a constant load, and in the beginning. It is
 *
 *     weight = cycles + k * instructions
 *
 * where k, the energy of an instruction in that of a cycle, is the ratio of the
 * two slopes that Bircher and John measured ("Complete System Power Estimation:
 * A Trickle-Down Approach Based on Performance Events", ISPASS 2007): 35.7 W
 * active less 9.25 W halted, and 4.31 W for each fetched uop per cycle.
 */

#include <math.h>
#include <string.h>

#include "attribution/weights.h"
#include "util/clock.h"

#define INSTRUCTION_CYCLES (4.31 / (35.7 - 9.25))

enum {
    CORE_SECONDS,
    CYCLES,
    CYCLES_F,
    CYCLES_F2,
    INSTRUCTIONS,
    INSTRUCTIONS_F,
    INSTRUCTIONS_F2,
    MISSES,
    FEATURES,
};

/* What was learned fades with this time constant: a host's firmware and cooling change. */
#define MEMORY_S (6 * 3600.0)
/* Features that vary by this part of their mean, squared, count as much as the published ones. */
#define RIDGE 1e-4
/* A solution takes microseconds; the sums hardly change in between. */
#define SAMPLES_PER_FIT 10
#define SAMPLES_MIN 30
/* Coordinate descent goes on from the last solution. */
#define SWEEPS 100

/* One zone's sums over its intervals, in watts and features per second, and the solution. */
struct fit {
    char zone[ZONE_NAME_MAX];
    double weight; /* of all intervals together */
    unsigned n;
    double power, sums[FEATURES];
    double power_products[FEATURES], products[FEATURES][FEATURES];
    bool fitted;
    double coefficients[FEATURES];
};

struct counters_model {
    struct attribution_model head;
    struct fit fits[ZONES_MAX];
};

static const double published[FEATURES] = {[CYCLES] = 1, [INSTRUCTIONS] = INSTRUCTION_CYCLES};

static void get_features(const struct usage_amount *amount, const struct zone *zone, double *ret)
{
    struct usage_socket used = usage_on_socket(amount, zone->socket);
    double own = 1 - corun_part(&used) / 2;
    double ghz = used.cpu_ns ? (double)used.cycles / (double)used.cpu_ns : 0;

    ret[CORE_SECONDS] = (double)used.cpu_ns * own / 1e9;
    ret[CYCLES] = (double)used.cycles * own / 1e9;
    ret[CYCLES_F] = ret[CYCLES] * ghz;
    ret[CYCLES_F2] = ret[CYCLES_F] * ghz;
    ret[INSTRUCTIONS] = (double)used.instructions / 1e9;
    ret[INSTRUCTIONS_F] = ret[INSTRUCTIONS] * ghz;
    ret[INSTRUCTIONS_F2] = ret[INSTRUCTIONS_F] * ghz;
    ret[MISSES] = (double)used.llc_misses / 1e9;
}

static const struct fit *find_fit(const struct counters_model *model, const struct zone *zone)
{
    for (size_t i = 0; i < ZONES_MAX; i++)
        if (model->fits[i].fitted && strcmp(model->fits[i].zone, zone->name) == 0)
            return &model->fits[i];
    return NULL;
}

/* Before anything is learned; two busy siblings count as for CPU time. */
static double published_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    struct usage_socket used = usage_on_socket(amount, weighing->zone->socket);

    return ((double)used.cycles + INSTRUCTION_CYCLES * (double)used.instructions) *
           smt_factor(&used, &weighing->model->options);
}

static double activity_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    const struct fit *fit =
        find_fit((const struct counters_model *)weighing->model, weighing->zone);
    double features[FEATURES], weight = 0;

    if (!fit)
        return published_weight(weighing, amount);
    get_features(amount, weighing->zone, features);
    for (size_t i = 0; i < FEATURES; i++)
        weight += fit->coefficients[i] * features[i];
    return weight;
}

static void counters_weights(const struct attribution_model *model, const struct zone *zone,
                             const struct usage *usage, uint64_t *ret)
{
    const struct weighing weighing = {model, zone, usage};
    /* Instructions alone do not show frequency or waiting: CPU time is the better weight. */
    bool counted = zone->kind != ZONE_DRAM && usage->features & USAGE_CYCLES;

    if (!counted || !weigh(&weighing, activity_weight, ret))
        weigh_by_cputime(&weighing, ret);
}

static void add_interval(struct fit *fit, const double *features, double power, double seconds)
{
    double keep = exp(-seconds / MEMORY_S);

    fit->n++;
    fit->weight = fit->weight * keep + 1;
    fit->power = fit->power * keep + power;
    for (size_t i = 0; i < FEATURES; i++) {
        fit->sums[i] = fit->sums[i] * keep + features[i];
        fit->power_products[i] = fit->power_products[i] * keep + features[i] * power;
        for (size_t k = 0; k < FEATURES; k++)
            fit->products[i][k] = fit->products[i][k] * keep + features[i] * features[k];
    }
}

/* Sums of products of the deviations from the means: the constant is out of the way. */
static double deviations(const struct fit *fit, size_t i, size_t k)
{
    return fit->products[i][k] - fit->sums[i] * fit->sums[k] / fit->weight;
}

static double power_deviations(const struct fit *fit, size_t i)
{
    return fit->power_products[i] - fit->sums[i] * fit->power / fit->weight;
}

/* The unit of the published weight: watts per weight, by least squares. 0: it is not known. */
static double published_unit(const struct fit *fit)
{
    double slope = 0, square = 0;

    for (size_t i = 0; i < FEATURES; i++) {
        slope += published[i] * power_deviations(fit, i);
        for (size_t k = 0; k < FEATURES; k++)
            square += published[i] * published[k] * deviations(fit, i, k);
    }
    return slope > 0 && square > 0 ? slope / square : 0;
}

static void solve(struct fit *fit)
{
    double unit = published_unit(fit), ridge[FEATURES];

    if (unit == 0)
        return;
    for (size_t i = 0; i < FEATURES; i++) {
        ridge[i] = RIDGE * fit->sums[i] * fit->sums[i] / fit->weight;
        if (!fit->fitted)
            fit->coefficients[i] = unit * published[i];
    }
    for (unsigned sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t i = 0; i < FEATURES; i++) {
            double square = deviations(fit, i, i) + ridge[i];
            double rest = power_deviations(fit, i) + ridge[i] * unit * published[i];

            for (size_t k = 0; k < FEATURES; k++)
                if (k != i)
                    rest -= deviations(fit, i, k) * fit->coefficients[k];
            fit->coefficients[i] = square > 0 ? fmax(rest / square, 0) : 0;
        }
    fit->fitted = true;
}

static void counters_learn(struct attribution_model *model, size_t slot, const struct zone *zone,
                           const struct sample_zone *sample, const struct usage *usage)
{
    struct fit *fit = &((struct counters_model *)model)->fits[slot];
    double seconds = (double)sample->duration_ns / 1e9, sums[FEATURES] = {0};

    if (zone->kind == ZONE_DRAM || !(usage->features & USAGE_CYCLES) || seconds <= 0)
        return;
    memcpy(fit->zone, zone->name, sizeof(fit->zone));
    for (size_t i = 0; i < usage_n_entities(usage); i++) {
        double features[FEATURES];

        get_features(usage_entity(usage, i), zone, features);
        for (size_t k = 0; k < FEATURES; k++)
            sums[k] += features[k] / seconds;
    }
    add_interval(fit, sums, (double)sample->energy_uj / 1e6 / seconds, seconds);
    if (fit->n >= SAMPLES_MIN && fit->n % SAMPLES_PER_FIT == 0)
        solve(fit);
}

static const struct attribution_model_ops counters_ops = {
    .name = "counters",
    .by_cycles = true,
    .learn = counters_learn,
    .weights = counters_weights,
    .free = model_free,
};

int counters_model_new(const struct model_options *options, struct attribution_model **ret)
{
    return model_new(sizeof(struct counters_model), &counters_ops, options, ret);
}
