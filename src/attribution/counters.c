/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Package, core, uncore and psys energy by what the cores did:
 *
 *     weight = (cycles + k * instructions) * SMT factor
 *
 * Core cycles that are not halted carry time and frequency at once: a VM on a
 * core at 1 GHz gets a third of one at 3 GHz, where CPU time gives both the
 * same. Instructions carry how much of the core was at work: a core that waits
 * for memory draws less in a cycle than one that retires several instructions.
 * k, the energy of an instruction in that of a cycle, is the ratio of the two
 * slopes that Bircher and John measured ("Complete System Power Estimation: A
 * Trickle-Down Approach Based on Performance Events", ISPASS 2007): 35.7 W
 * active less 9.25 W halted, and 4.31 W for each fetched uop per cycle. It is
 * that of one CPU of its time; a host's own weights belong in a fitted model.
 * No weight for last-level cache misses within the package has been published
 * that would hold beyond one chip: they divide DRAM energy (cputime.c), and the
 * cycles spent waiting for them are counted here.
 *
 * Two busy siblings count every cycle twice. The SMT factor is that of CPU time.
 */

#include "attribution/weights.h"

#define INSTRUCTION_CYCLES (4.31 / (35.7 - 9.25))

static double activity_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    struct usage_socket used = usage_on_socket(amount, weighing->zone->socket);

    return ((double)used.cycles + INSTRUCTION_CYCLES * (double)used.instructions) *
           smt_factor(&used, &weighing->model->options);
}

static void counters_weights(const struct attribution_model *model, const struct zone *zone,
                             const struct usage *usage, uint64_t *ret)
{
    const struct weighing weighing = {model, zone, usage};
    /* Instructions alone tell nothing of frequency and waiting: less than CPU time does. */
    bool counted = zone->kind != ZONE_DRAM && usage->features & USAGE_CYCLES;

    if (!counted || !weigh(&weighing, activity_weight, ret))
        weigh_by_cputime(&weighing, ret);
}

static const struct attribution_model_ops counters_ops = {
    .name = "counters",
    .weights = counters_weights,
    .free = model_free,
};

int counters_model_new(const struct model_options *options, struct attribution_model **ret)
{
    return model_new(sizeof(**ret), &counters_ops, options, ret);
}
