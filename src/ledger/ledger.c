/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/share.h"
#include "ledger/ledger_internal.h"

int ledger_new(struct ledger **ret, const struct ledger_config *config)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));

    if (!ledger)
        return -ENOMEM;
    ledger->config = *config;
    ledger->platform_slot = NO_SLOT;
    ledger_reset(ledger);
    *ret = ledger;
    return 0;
}

struct ledger *ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return NULL;
    ledger_reset(ledger);
    ledger_division_deinit(&ledger->division);
    free(ledger);
    return NULL;
}

struct static_power ledger_get_learned(const struct ledger *ledger, const char *source,
                                       const char *zone)
{
    const struct zone_totals *totals = ledger_find_totals(ledger, source, zone);

    return totals ? totals->learned : (struct static_power){.origin = STATIC_NONE};
}

void ledger_set_platform(struct ledger *ledger, size_t slot, uint64_t io_pj_per_byte)
{
    assert(slot < ZONES_MAX);
    ledger->platform_slot = slot;
    ledger->io_pj_per_byte = io_pj_per_byte;
}

int ledger_update_vms(struct ledger *ledger, const struct vm_table *vms, uint64_t time_ns)
{
    for (size_t i = 0; i < vms->n; i++) {
        struct row *row;
        int r = ledger_get_row(ledger, vms->vms[i].uuid, &row);

        if (r < 0)
            return r;
    }
    for (struct row *row = ledger->rows; row; row = row->next) {
        const struct vm *vm = vm_table_find(vms, row->uuid);

        if (vm && vm->running && !row->running)
            ledger_begin_run(ledger, row);
        row->defined = vm && vm->defined;
        row->running = vm && vm->running;
        if (!vm)
            continue;
        row->manager = vm->manager;
        row->vcpus = vm->vcpus;
        row->last_seen_ns = time_ns;
        row->awaited_until_ns = 0;
        memcpy(row->name, vm->name, sizeof(row->name));
        if (row->running)
            ledger_take_arrival(ledger, row, vm);
    }
    return 0;
}

int ledger_prepare_vm(struct ledger *ledger, const uuid_t uuid, uint64_t time_ns)
{
    struct row *row;
    int r;

    assert(!uuid_is_null(uuid));
    r = ledger_get_row(ledger, uuid, &row);
    if (r < 0)
        return r;
    if (row->name[0] == '\0')
        uuid_unparse_lower(uuid, row->name);
    row->prepared_until_ns = time_ns + LEDGER_PREPARED_NS;
    return 0;
}

/* A guest may already hold this VM's tree although discovery has not seen the VM yet. */
static bool is_expected(const struct row *row, uint64_t now)
{
    return now < row->awaited_until_ns || now < row->prepared_until_ns;
}

static unsigned present_tree_zones(const struct ledger *ledger, const struct zone_set *zones)
{
    unsigned present = 1u << TREE_PACKAGE;

    for (size_t slot = 0; slot < zones->n; slot++) {
        switch (zones->zones[slot].kind) {
        case ZONE_CORE:
            present |= 1u << TREE_CORE;
            break;
        case ZONE_DRAM:
            present |= 1u << TREE_DRAM;
            break;
        case ZONE_PSYS:
            present |= ledger->config.publish_psys ? 1u << TREE_PSYS : 0;
            break;
        case ZONE_PACKAGE:
        case ZONE_UNCORE:
            break;
        }
    }
    return present;
}

static const enum zone_kind tree_kinds[TREE_ZONES] = {
    [TREE_PACKAGE] = ZONE_PACKAGE,
    [TREE_CORE] = ZONE_CORE,
    [TREE_DRAM] = ZONE_DRAM,
    [TREE_PSYS] = ZONE_PSYS,
};

static uint64_t cut(const struct ledger *ledger, uint64_t energy_uj)
{
    return ledger->config.quantum_uj > 1 ? energy_uj - energy_uj % ledger->config.quantum_uj
                                         : energy_uj;
}

/*
 * The next ramps begin at the values that are published now, so that no value ever jumps. Both
 * ends are cut to the quantum: the moments at which a ramp between others steps over the quanta
 * would tell its slope, and so the total, to the microjoule.
 */
static void advance_ramps(struct row *row, const struct ledger *ledger, uint64_t now)
{
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        enum zone_kind kind = tree_kinds[zone];
        struct ramp *ramp = &row->tree[zone];
        uint64_t to_uj;

        ramp->from_uj =
            cut(ledger, ramp_value(ramp, ledger->ramp_start_ns, ledger->config.interval_ns, now));
        to_uj = ledger_shown_total(ledger, row, kind);
        if (to_uj > row->ceiling_uj[kind])
            to_uj = row->ceiling_uj[kind];
        to_uj = cut(ledger, to_uj);
        if (ramp->to_uj < to_uj)
            ramp->to_uj = to_uj;
    }
}

static void settle_ramps(const struct ledger *ledger, struct row *row)
{
    for (unsigned zone = 0; zone < TREE_ZONES; zone++)
        row->tree[zone].from_uj = row->tree[zone].to_uj =
            cut(ledger, ledger_shown_total(ledger, row, tree_kinds[zone]));
}

int ledger_restore(struct ledger *ledger, const struct ledger_image *image, uint64_t now)
{
    int r;

    ledger_reset(ledger);
    r = ledger_load(ledger, image);
    if (r < 0) {
        ledger_reset(ledger);
        return r;
    }
    for (struct row *row = ledger->rows; row; row = row->next) {
        row->last_seen_ns = now;
        row->awaited_until_ns = now + LEDGER_AWAIT_NS;
        settle_ramps(ledger, row);
        ledger_restore_floors(ledger, row);
    }
    return 0;
}

static void fill_vm(struct snapshot_vm *vm, const struct ledger *ledger, const struct row *row,
                    uint64_t now)
{
    vm->id = row->id;
    uuid_copy(vm->uuid, row->uuid);
    uuid_unparse_lower(row->uuid, vm->uuid_text);
    memcpy(vm->name, row->name, sizeof(vm->name));
    vm->manager = row->manager;
    vm->running = row->running;
    vm->has_tree = row->running || row->defined || is_expected(row, now);
    vm->vcpus = row->vcpus;
    vm->tree_zones = row->tree_zones;
    memcpy(vm->tree, row->tree, sizeof(vm->tree));
    for (size_t slot = 0; slot < ledger->n_slots; slot++) {
        if (!ledger->slots[slot])
            continue;
        vm->dynamic_uj[slot] = row->energies[totals_index(ledger, ledger->slots[slot])].dynamic_uj;
        vm->static_uj[slot] = row->energies[totals_index(ledger, ledger->slots[slot])].static_uj;
    }
    vm->cpu_ns = row->cpu_ns;
    vm->io_bytes = row->io_bytes;
    vm->memory_bytes = row->memory_bytes;
}

static int compare_snapshot_vm(const void *a, const void *b)
{
    return uuid_compare(((const struct snapshot_vm *)a)->uuid,
                        ((const struct snapshot_vm *)b)->uuid);
}

static int compare_index(const void *a, const void *b, void *userdata)
{
    const struct snapshot_vm *vms = userdata;
    uint32_t x = vms[*(const uint32_t *)a].id, y = vms[*(const uint32_t *)b].id;

    return (x > y) - (x < y);
}

/* Zones that the guest saw on its former host must stay visible. */
static unsigned migrated_tree_zones(const struct row *row)
{
    unsigned zones = 0;

    for (unsigned zone = 0; zone < TREE_ZONES; zone++)
        if (row->migrated_kinds & 1u << tree_kinds[zone])
            zones |= 1u << zone;
    return zones;
}

static void fill_vms(struct ledger *ledger, const struct zone_set *zones, uint64_t now,
                     struct snapshot *snapshot)
{
    unsigned present = present_tree_zones(ledger, zones);

    for (struct row *row = ledger->rows; row; row = row->next) {
        /* Readers look for zones once: the set changes only while no guest can hold the tree. */
        if ((!row->running && !is_expected(row, now)) || !row->tree_zones)
            row->tree_zones = present;
        row->tree_zones |= migrated_tree_zones(row);
        if (ledger->recorded)
            advance_ramps(row, ledger, now);
        fill_vm(&snapshot->vms[snapshot->n_vms++], ledger, row, now);
    }
    if (ledger->has_former)
        fill_vm(&snapshot->vms[snapshot->n_vms++], ledger, &ledger->former, now);
    qsort(snapshot->vms, snapshot->n_vms, sizeof(*snapshot->vms), compare_snapshot_vm);
    for (uint32_t i = 0; i < snapshot->n_vms; i++)
        snapshot->by_id[i] = i;
    qsort_r(snapshot->by_id, snapshot->n_vms, sizeof(*snapshot->by_id), compare_index,
            snapshot->vms);
}

int ledger_snapshot(struct ledger *ledger, const struct zone_set *zones,
                    const struct sample *sample, uint64_t now, struct snapshot **ret)
{
    struct snapshot *snapshot = snapshot_new(ledger->n_rows + 1);

    if (!snapshot)
        return -ENOMEM;
    snapshot->time_ns = sample->time_ns;
    snapshot->interval_ns = ledger->config.interval_ns;
    snapshot->model = ledger->config.model->ops->name;
    snapshot->static_policy = static_policy_to_string(ledger->config.static_policy);
    snapshot->n_zones = zones->n;
    ledger_map_zones(ledger, zones);
    for (size_t slot = 0; slot < zones->n; slot++) {
        static const struct zone_totals none;
        const struct zone_totals *totals = ledger->slots[slot] ? ledger->slots[slot] : &none;

        snapshot->zones[slot] = (struct snapshot_zone){
            .zone = zones->zones[slot],
            .readable = sample->zones[slot].valid,
            .measured_uj = totals->measured_uj - totals->remainder_uj,
            .host_uj = totals->host_uj,
            .static_uj = totals->static_uj,
            .unattributed_uj = totals->unattributed_uj,
        };
    }
    fill_vms(ledger, zones, now, snapshot);
    if (ledger->recorded)
        ledger->ramp_start_ns = now;
    ledger->recorded = false;
    snapshot->ramp_start_ns = ledger->ramp_start_ns;
    *ret = snapshot;
    return 0;
}

/* The row's fractions go to the host, where they may complete a microjoule of the remainder. */
static void fold_row(struct ledger *ledger, const struct row *row)
{
    for (size_t a = 0; a < ledger->n_totals; a++) {
        struct zone_totals *totals = &ledger->totals[a];
        unsigned completed =
            share_merge_fraction(&totals->host_fraction, row->energies[a].dynamic_fraction);

        totals->host_uj += completed;
        totals->remainder_uj -= completed;
        ledger->former.energies[a].dynamic_uj += row->energies[a].dynamic_uj;
        ledger->former.energies[a].static_uj += row->energies[a].static_uj;
    }
    ledger->former.cpu_ns += row->cpu_ns;
    ledger->former.io_bytes += row->io_bytes;
    ledger->has_former = true;
}

void ledger_expire(struct ledger *ledger, uint64_t now, void (*forget)(uint32_t id, void *userdata),
                   void *userdata)
{
    struct row **link = &ledger->rows;

    while (*link) {
        struct row *row = *link;

        if (row->running || row->defined || is_expected(row, now) ||
            now < row->last_seen_ns + LEDGER_KEEP_NS) {
            link = &row->next;
            continue;
        }
        ledger_take_row(ledger, link);
        fold_row(ledger, row);
        forget(row->id, userdata);
        free(row);
    }
}
