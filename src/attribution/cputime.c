/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/model.h"

static uint64_t cpu_time(const struct usage_amount *amount, int socket)
{
    uint64_t sum = 0;

    if (socket >= 0)
        return socket < SOCKETS_MAX ? amount->cpu_ns[socket] : 0;
    for (unsigned s = 0; s < SOCKETS_MAX; s++)
        sum += amount->cpu_ns[s];
    return sum;
}

static void cputime_weights(const struct zone *zone, const struct usage_amount *const *entities,
                            size_t n, uint64_t *ret)
{
    for (size_t i = 0; i < n; i++)
        ret[i] = zone->kind == ZONE_DRAM ? entities[i]->memory_bytes
                                         : cpu_time(entities[i], zone->socket);
}

const struct attribution_model attribution_model_cputime = {
    .name = "cputime",
    .weights = cputime_weights,
};
