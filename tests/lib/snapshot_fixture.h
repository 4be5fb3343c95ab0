/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Hand-made snapshots for the tests of the publishers. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/snapshot.h"

#define FIXTURE_ALL_ZONES ((1U << TREE_PACKAGE) | (1U << TREE_CORE) | (1U << TREE_DRAM))

static inline int fixture_compare_vms(const void *a, const void *b)
{
    return uuid_compare(((const struct snapshot_vm *)a)->uuid,
                        ((const struct snapshot_vm *)b)->uuid);
}

/* Of indices into the snapshot's VMs. */
static inline int fixture_compare_ids(const void *a, const void *b, void *vms)
{
    const struct snapshot_vm *all = vms;
    uint32_t left = all[*(const uint32_t *)a].id;
    uint32_t right = all[*(const uint32_t *)b].id;

    return (left > right) - (left < right);
}

/* Fills a VM: its UUID ends in the given number, its id is given apart. */
static inline void fixture_vm(struct snapshot_vm *vm, uint32_t id, unsigned uuid, const char *name)
{
    *vm = (struct snapshot_vm){.id = id,
                               .trusted = true,
                               .running = true,
                               .has_tree = true,
                               .vcpus = 1,
                               .tree_zones = FIXTURE_ALL_ZONES};
    for (unsigned i = 0; i < 4; i++)
        vm->uuid[15 - i] = (unsigned char)(uuid >> (8 * i));
    uuid_unparse_lower(vm->uuid, vm->uuid_text);
    snprintf(vm->name, sizeof(vm->name), "%s", name);
}

/* A snapshot of copies of the VMs, sorted and indexed; abort()s without memory. */
static inline struct snapshot *fixture_snapshot(const struct snapshot_vm *vms, size_t n)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (!snapshot)
        abort();
    snapshot->interval_ns = 1000000000;
    snapshot->source = "rapl";
    snapshot->usage_provider = "procfs";
    snapshot->model = "cputime";
    snapshot->static_policy = "exclude";
    snapshot->n_vms = n;
    if (n == 0)
        return snapshot;
    snapshot->vms = calloc(n, sizeof(*vms));
    snapshot->by_id = calloc(n, sizeof(*snapshot->by_id));
    if (!snapshot->vms || !snapshot->by_id)
        abort();
    memcpy(snapshot->vms, vms, n * sizeof(*vms));
    qsort(snapshot->vms, n, sizeof(*vms), fixture_compare_vms);
    for (uint32_t i = 0; i < n; i++)
        snapshot->by_id[i] = i;
    qsort_r(snapshot->by_id, n, sizeof(*snapshot->by_id), fixture_compare_ids, snapshot->vms);
    if (snapshot_name_vms(snapshot) < 0)
        abort();
    return snapshot;
}

/* A good BMC, and a PDU that has never answered. */
static inline void fixture_meters(struct snapshot *snapshot)
{
    snapshot->n_meters = 2;
    snapshot->meters[0] = (struct snapshot_meter){
        .source = "dcmi",
        .state = "ok",
        .known = {{7500000000, 364000000, 1000000},
                  PLATFORM_TRUSTED,
                  {STATIC_LEARNED, true, 177.8, 1.5, 1.334, 0.01, 2e-8, 5, 1, 2}},
        .used = true,
    };
    snapshot->meters[1] = (struct snapshot_meter){
        .source = "snmp",
        .state = "silent",
        .known = {.trust = PLATFORM_SILENT, .estimate = {.state = STATIC_LEARNING}},
    };
}
