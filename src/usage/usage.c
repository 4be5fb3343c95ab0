/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/usage.h"

#include <stdlib.h>

void usage_deinit(struct usage *usage)
{
    free(usage->vms);
    *usage = (struct usage){0};
}

struct usage_socket usage_on_socket(const struct usage_amount *amount, int socket)
{
    struct usage_socket sum = {0};

    if (socket >= SOCKETS_MAX)
        return sum;
    if (socket >= 0)
        return amount->sockets[socket];
    for (unsigned s = 0; s < SOCKETS_MAX; s++) {
        const struct usage_socket *one = &amount->sockets[s];

        sum.cpu_ns += one->cpu_ns;
        sum.corun_ns += one->corun_ns;
        sum.cycles += one->cycles;
        sum.instructions += one->instructions;
        sum.llc_misses += one->llc_misses;
        sum.memory_bytes += one->memory_bytes;
    }
    return sum;
}

struct usage_provider *usage_provider_free(struct usage_provider *provider)
{
    if (provider)
        provider->ops->free(provider);
    return NULL;
}
