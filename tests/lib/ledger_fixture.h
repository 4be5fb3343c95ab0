/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A ledger of made-up VMs under a load that differs from tick to tick. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/ledger.h"
#include "util/clock.h"

struct ledger_fixture {
    struct zone_set zones;
    struct attribution_model *model;
    struct ledger *ledger;
    struct sampler sampler;
    struct vm_table vms;
    struct usage usage;
    struct sample sample;
    struct static_power static_powers[ZONES_MAX];
    uint64_t tick;
};

/* Two packages with DRAM. @return 0 or -ENOMEM */
static inline int ledger_fixture_init(struct ledger_fixture *fixture, size_t n_vms,
                                      const char *source, enum static_policy policy)
{
    static const struct zone_set zones = {
        .n = 4,
        .zones =
            {
                {"package-0", ZONE_PACKAGE, 0, UINT64_C(262143328850), NULL},
                {"dram", ZONE_DRAM, 0, UINT64_C(65712999613), NULL},
                {"package-1", ZONE_PACKAGE, 1, UINT64_C(262143328850), NULL},
                {"dram-1", ZONE_DRAM, 1, UINT64_C(65712999613), NULL},
            },
    };
    struct ledger_config config = {.static_policy = policy, .interval_ns = NSEC_PER_SEC};
    int r;

    *fixture = (struct ledger_fixture){.zones = zones, .tick = 1000};
    snprintf(config.source, sizeof(config.source), "%s", source);
    r = cputime_model_new(&MODEL_OPTIONS_DEFAULT, &fixture->model);
    if (r < 0)
        return r;
    config.model = fixture->model;
    r = ledger_new(&fixture->ledger, &config);
    if (r < 0)
        return r;
    fixture->vms = (struct vm_table){calloc(n_vms, sizeof(struct vm)), n_vms};
    fixture->usage =
        (struct usage){2, .vms = calloc(n_vms, sizeof(struct usage_vm)), .n_vms = n_vms};
    for (size_t i = 0; i < n_vms; i++) {
        struct vm *vm = &fixture->vms.vms[i];

        vm->uuid[14] = (unsigned char)((i + 1) >> 8);
        vm->uuid[15] = (unsigned char)(i + 1);
        vm->running = true;
        vm->vcpus = (unsigned)(i % 8 + 1);
        snprintf(vm->name, sizeof(vm->name), "vm%zu", i);
        uuid_copy(fixture->usage.vms[i].uuid, vm->uuid);
    }
    for (size_t slot = 0; slot < zones.n; slot++)
        fixture->static_powers[slot].power_uw = 7000001 + slot;
    return 0;
}

static inline void ledger_fixture_deinit(struct ledger_fixture *fixture)
{
    ledger_free(fixture->ledger);
    attribution_model_free(fixture->model);
    free(fixture->vms.vms);
    free(fixture->usage.vms);
}

static inline uint64_t ledger_fixture_time(const struct ledger_fixture *fixture)
{
    return fixture->tick * NSEC_PER_SEC;
}

/* One interval; what happens in it depends on the tick's number only. @return 0 or -ENOMEM */
static inline int ledger_fixture_tick(struct ledger_fixture *fixture)
{
    uint64_t tick = ++fixture->tick, time_ns = ledger_fixture_time(fixture);
    int r;

    fixture->sample.time_ns = time_ns;
    for (size_t slot = 0; slot < fixture->zones.n; slot++) {
        uint64_t energy_uj =
            20000003 + tick % 13 * 1000017 + (uint64_t)fixture->zones.zones[slot].kind;

        fixture->sample.zones[slot] =
            (struct sample_zone){true, false, energy_uj, NSEC_PER_SEC + tick % 3};
        fixture->sampler.last[slot] = (struct reading){
            true, tick * energy_uj % fixture->zones.zones[slot].max_energy_uj, time_ns};
    }
    for (size_t i = 0; i < fixture->usage.n_vms; i++) {
        struct usage_amount *amount = &fixture->usage.vms[i].amount;

        amount->sockets[i % 2].cpu_ns = (tick * 7 + i * 13) % 101 * 1000003;
        amount->sockets[i % 2].memory_bytes = (i + 1) << 20;
        amount->io_bytes = tick % 5 * 4096;
    }
    fixture->usage.host.sockets[0].cpu_ns = 30000000 + tick % 7;
    fixture->usage.host.sockets[1].memory_bytes = 1 << 20;
    r = ledger_update_vms(fixture->ledger, &fixture->vms, time_ns);
    return r < 0 ? r
                 : ledger_record(fixture->ledger, &fixture->zones, &fixture->sample,
                                 &fixture->usage, fixture->static_powers);
}
