/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Package, core, uncore and psys energy by CPU time, weighed for SMT.
 *
 * DRAM. The power of a DIMM beyond its background follows its traffic: rows
 * opened, lines read and written. Refresh goes on over all rows, used or not; it
 * is part of the static energy, which has been taken off before. So where
 * last-level cache misses are counted they are the weight. A miss is counted
 * on the socket of the CPU, but is served by the node that holds the page: an
 * entity's misses are therefore spread over the sockets as its resident
 * memory is. Prefetches, write-backs and devices' accesses are not among the
 * misses; they are taken to be in proportion. Without counts the weight is
 * the resident memory itself.
 */

#include "attribution/weights.h"

double cpu_time_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    struct usage_socket used = usage_on_socket(amount, weighing->zone->socket);

    return (double)used.cpu_ns * smt_factor(&used, &weighing->model->options);
}

static double traffic_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    struct usage_socket here = usage_on_socket(amount, weighing->zone->socket);
    struct usage_socket all = usage_on_socket(amount, ZONE_ALL_SOCKETS);

    if (all.memory_bytes == 0)
        return (double)here.llc_misses;
    return (double)all.llc_misses * ((double)here.memory_bytes / (double)all.memory_bytes);
}

static double residency_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    return (double)usage_on_socket(amount, weighing->zone->socket).memory_bytes;
}

void weigh_by_cputime(const struct weighing *weighing, uint64_t *ret)
{
    if (weighing->zone->kind != ZONE_DRAM)
        weigh(weighing, cpu_time_weight, ret);
    else if (!weigh(weighing, traffic_weight, ret))
        weigh(weighing, residency_weight, ret);
}

static void cputime_weights(const struct attribution_model *model, const struct zone *zone,
                            const struct usage *usage, uint64_t *ret)
{
    weigh_by_cputime(&(struct weighing){model, zone, usage}, ret);
}

static const struct attribution_model_ops cputime_ops = {
    .name = "cputime",
    .weights = cputime_weights,
    .free = model_free,
};

int cputime_model_new(const struct model_options *options, struct attribution_model **ret)
{
    return model_new(sizeof(**ret), &cputime_ops, options, ret);
}
