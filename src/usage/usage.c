/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/usage.h"

#include <errno.h>
#include <stdlib.h>

void usage_deinit(struct usage *usage)
{
    free(usage->vms);
    *usage = (struct usage){0};
}

static int compare_uuids(const void *a, const void *b)
{
    return uuid_compare(a, b);
}

int usage_init_vms(struct usage *usage, uuid_t *uuids, size_t n)
{
    size_t unique = 0;

    if (n > 0)
        qsort(uuids, n, sizeof(*uuids), compare_uuids);
    for (size_t i = 0; i < n; i++)
        unique += i == 0 || uuid_compare(uuids[i - 1], uuids[i]) != 0;
    usage->vms = calloc(unique + 1, sizeof(*usage->vms));
    if (!usage->vms)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || uuid_compare(uuids[i - 1], uuids[i]) != 0)
            uuid_copy(usage->vms[usage->n_vms++].uuid, uuids[i]);
    return 0;
}

static int compare_uuid(const void *uuid, const void *vm)
{
    return uuid_compare(uuid, ((const struct usage_vm *)vm)->uuid);
}

struct usage_amount *usage_find_amount(struct usage *usage, const uuid_t uuid)
{
    struct usage_vm *vm =
        bsearch(uuid, usage->vms, usage->n_vms, sizeof(*usage->vms), compare_uuid);

    return vm ? &vm->amount : NULL;
}

void usage_charge(struct usage *usage, const uuid_t uuid, const uint64_t cpu_ns[PACKAGES_MAX])
{
    struct usage_amount *vm = usage_find_amount(usage, uuid);

    for (unsigned s = 0; vm && s < PACKAGES_MAX; s++) {
        struct usage_socket *host = &usage->host.sockets[s];
        uint64_t moved = cpu_ns[s] < host->cpu_ns ? cpu_ns[s] : host->cpu_ns;

        host->cpu_ns -= moved;
        if (host->corun_ns > host->cpu_ns)
            host->corun_ns = host->cpu_ns;
        vm->sockets[s].cpu_ns += moved;
    }
}

struct usage_socket usage_on_socket(const struct usage_amount *amount, int socket)
{
    struct usage_socket sum = {0};

    if (socket >= PACKAGES_MAX)
        return sum;
    if (socket >= 0)
        return amount->sockets[socket];
    for (unsigned s = 0; s < PACKAGES_MAX; s++) {
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
