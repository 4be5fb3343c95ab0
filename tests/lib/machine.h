/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A made-up machine: its zones, its VMs, what the VMs and the host used in one
 * interval of a second, and the ledger in which these are entered. A test sets
 * the members as it needs them. What fails here abort()s.
 */

#include <stdio.h>
#include <stdlib.h>

#include "ledger/ledger.h"
#include "require.h"
#include "util/clock.h"

/* Two packages with DRAM, and psys over both. */
enum { PACKAGE_0, DRAM_0, PACKAGE_1, DRAM_1, PSYS };
static const struct zone_set machine_zones = {
    .n = 5,
    .zones =
        {
            {"package-0", ZONE_PACKAGE, 0, UINT64_C(262143328850), NULL},
            {"dram", ZONE_DRAM, 0, UINT64_C(65712999613), NULL},
            {"package-1", ZONE_PACKAGE, 1, UINT64_C(262143328850), NULL},
            {"dram-1", ZONE_DRAM, 1, UINT64_C(65712999613), NULL},
            {"psys", ZONE_PSYS, ZONE_ALL_SOCKETS, UINT64_C(262143328850), NULL},
        },
};

struct machine {
    struct zone_set zones;
    struct vm_table vms;
    struct usage usage; /* of the same VMs in the same order, and of the host */
    struct sample sample;
    struct static_power static_powers[ZONES_MAX];
    uint64_t time_ns;
    struct attribution_model *model; /* NULL, as the ledger, before machine_open_ledger() */
    struct ledger *ledger;
    struct sampler sampler; /* what the counters of machine_run_tick() show */
};

/** On machine_zones, with running VMs: vm0 has the UUID ...0001 and one vCPU, vm1 ...0002 and two,
   and so on up to eight vCPUs. All that is measured and used is 0. */
static inline void machine_init(struct machine *machine, size_t n_vms)
{
    *machine = (struct machine){.zones = machine_zones, .time_ns = 1000 * NSEC_PER_SEC};
    machine->vms = (struct vm_table){.vms = calloc(n_vms, sizeof(struct vm)), .n = n_vms};
    machine->usage = (struct usage){
        .n_sockets = 2, .vms = calloc(n_vms, sizeof(struct usage_vm)), .n_vms = n_vms};
    require(machine->vms.vms && machine->usage.vms);
    for (size_t i = 0; i < n_vms; i++) {
        struct vm *vm = &machine->vms.vms[i];

        vm->uuid[14] = (unsigned char)((i + 1) >> 8);
        vm->uuid[15] = (unsigned char)(i + 1);
        vm->running = true;
        vm->vcpus = (unsigned)(i % 8 + 1);
        snprintf(vm->name, sizeof(vm->name), "vm%zu", i);
        uuid_copy(machine->usage.vms[i].uuid, vm->uuid);
    }
}

static inline void machine_deinit(struct machine *machine)
{
    ledger_free(machine->ledger);
    attribution_model_free(machine->model);
    free(machine->vms.vms);
    free(machine->usage.vms);
}

/** @param config  without a model and an interval: these are cputime and a second */
static inline void machine_open_ledger(struct machine *machine, struct ledger_config config)
{
    require(cputime_model_new(&MODEL_OPTIONS_DEFAULT, &machine->model) == 0);
    config.model = machine->model;
    config.interval_ns = NSEC_PER_SEC;
    require(ledger_new(&machine->ledger, &config) == 0);
}

/** The next interval ends a second later. */
static inline void machine_advance(struct machine *machine)
{
    machine->time_ns += NSEC_PER_SEC;
    machine->sample.time_ns = machine->time_ns;
}

/** A zone's energy in the interval. */
static inline void machine_measure(struct machine *machine, size_t slot, uint64_t energy_uj)
{
    machine->sample.zones[slot] =
        (struct sample_zone){.valid = true, .energy_uj = energy_uj, .duration_ns = NSEC_PER_SEC};
}

/** What a VM used in the interval. */
static inline struct usage_amount *machine_amount(struct machine *machine, size_t vm)
{
    return &machine->usage.vms[vm].amount;
}

/** Shows the ledger the VMs. */
static inline void machine_update_vms(struct machine *machine)
{
    require(ledger_update_vms(machine->ledger, &machine->vms, machine->time_ns) == 0);
}

/** Enters the interval in the ledger. */
static inline void machine_record(struct machine *machine)
{
    machine_update_vms(machine);
    require(ledger_record(machine->ledger, &machine->zones, &machine->sample, &machine->usage,
                          machine->static_powers) == 0);
}

/** @return to be released with snapshot_free() */
static inline struct snapshot *machine_snapshot(struct machine *machine)
{
    struct snapshot *snapshot;

    require(ledger_snapshot(machine->ledger, &machine->zones, &machine->sample, machine->time_ns,
                            &snapshot) == 0);
    return snapshot;
}

/** A machine without psys, for machine_run_tick(). */
static inline void machine_start(struct machine *machine, size_t n_vms, const char *source,
                                 enum static_policy policy)
{
    struct ledger_config config = {.static_policy = policy};

    machine_init(machine, n_vms);
    machine->zones.n = PSYS;
    for (size_t slot = 0; slot < machine->zones.n; slot++)
        machine->static_powers[slot].power_uw = 7000001 + slot;
    snprintf(config.source, sizeof(config.source), "%s", source);
    machine_open_ledger(machine, config);
}

/** One interval, entered in the ledger, under a load that differs from second to second and depends
   on the time only. */
static inline void machine_run_tick(struct machine *machine)
{
    uint64_t tick;

    machine_advance(machine);
    tick = machine->time_ns / NSEC_PER_SEC;
    for (size_t slot = 0; slot < machine->zones.n; slot++) {
        const struct zone *zone = &machine->zones.zones[slot];
        uint64_t energy_uj = 20000003 + tick % 13 * 1000017 + (uint64_t)zone->kind;

        machine_measure(machine, slot, energy_uj);
        machine->sample.zones[slot].duration_ns += tick % 3;
        machine->sampler.last[slot] =
            (struct reading){true, tick * energy_uj % zone->max_energy_uj, machine->time_ns};
    }
    for (size_t i = 0; i < machine->usage.n_vms; i++) {
        struct usage_amount *amount = machine_amount(machine, i);

        amount->sockets[i % 2].cpu_ns = (tick * 7 + i * 13) % 101 * 1000003;
        amount->sockets[i % 2].memory_bytes = (i + 1) << 20;
        amount->io_bytes = tick % 5 * 4096;
    }
    machine->usage.host.sockets[0].cpu_ns = 30000000 + tick % 7;
    machine->usage.host.sockets[1].memory_bytes = 1 << 20;
    machine_record(machine);
}
