/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/share.h"
#include "ledger/ledger_internal.h"
#include "util/cleanup.h"
#include "util/log.h"

static int compare_row(const void *a, const void *b)
{
    return uuid_compare(((const struct row *)a)->uuid, ((const struct row *)b)->uuid);
}

static void ignore_node(void *node)
{
}

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

static void free_rows(struct ledger *ledger)
{
    tdestroy(ledger->by_uuid, ignore_node);
    while (ledger->rows) {
        struct row *row = ledger->rows;

        ledger->rows = row->next;
        free(row);
    }
    ledger->by_uuid = NULL;
    ledger->n_rows = 0;
}

void ledger_reset(struct ledger *ledger)
{
    free_rows(ledger);
    ledger->n_totals = ledger->n_slots = 0;
    ledger->former = (struct row){.id = LEDGER_FORMER_ID, .name = "former"};
    ledger->last_id = LEDGER_FORMER_ID;
    ledger->has_former = false;
}

struct ledger *ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return NULL;
    free_rows(ledger);
    ledger_division_deinit(&ledger->division);
    free(ledger);
    return NULL;
}

void ledger_set_static_power(struct ledger *ledger, size_t slot,
                             const struct static_power *static_power)
{
    ledger->static_powers[slot] = *static_power;
}

struct static_power ledger_get_learned(const struct ledger *ledger, const char *source,
                                       const char *zone)
{
    for (size_t i = 0; i < ledger->n_totals; i++)
        if (strcmp(ledger->totals[i].source, source) == 0 &&
            strcmp(ledger->totals[i].name, zone) == 0)
            return ledger->totals[i].learned;
    return (struct static_power){.origin = STATIC_NONE};
}

void ledger_set_platform(struct ledger *ledger, size_t slot, uint64_t io_pj_per_byte)
{
    ledger->platform_slot = slot;
    ledger->io_pj_per_byte = io_pj_per_byte;
}

struct zone_totals *ledger_get_totals(struct ledger *ledger, const char *source, const char *name,
                                      enum zone_kind kind)
{
    struct zone_totals *totals;

    for (size_t i = 0; i < ledger->n_totals; i++)
        if (strcmp(ledger->totals[i].source, source) == 0 &&
            strcmp(ledger->totals[i].name, name) == 0)
            return &ledger->totals[i];
    if (ledger->n_totals == ZONES_MAX) {
        log_error("the ledger has no room for another zone, its energy is not counted",
                  F_STRING("zone", name));
        return NULL;
    }
    totals = &ledger->totals[ledger->n_totals++];
    *totals = (struct zone_totals){.kind = kind};
    snprintf(totals->source, sizeof(totals->source), "%s", source);
    snprintf(totals->name, sizeof(totals->name), "%s", name);
    return totals;
}

void ledger_map_zones(struct ledger *ledger, const struct zone_set *zones)
{
    for (; ledger->n_slots < zones->n; ledger->n_slots++) {
        const struct zone *zone = &zones->zones[ledger->n_slots];

        ledger->slots[ledger->n_slots] = ledger_get_totals(
            ledger, zone->source ? zone->source : ledger->config.source, zone->name, zone->kind);
    }
}

struct row *ledger_find_row(const struct ledger *ledger, const uuid_t uuid)
{
    struct row key, **known;

    uuid_copy(key.uuid, uuid);
    known = tfind(&key, &ledger->by_uuid, compare_row);
    return known ? *known : NULL;
}

int ledger_add_row(struct ledger *ledger, const uuid_t uuid, uint32_t id, struct row **ret)
{
    struct row *row;

    if (ledger_find_row(ledger, uuid))
        return -EEXIST;
    row = calloc(1, sizeof(*row));
    if (!row)
        return -ENOMEM;
    uuid_copy(row->uuid, uuid);
    if (!tsearch(row, &ledger->by_uuid, compare_row)) {
        free(row);
        return -ENOMEM;
    }
    row->id = id;
    row->vcpus = 1;
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        row->ceiling_uj[kind] = UINT64_MAX;
    row->next = ledger->rows;
    ledger->rows = row;
    ledger->n_rows++;
    *ret = row;
    return 0;
}

int ledger_get_row(struct ledger *ledger, const uuid_t uuid, struct row **ret)
{
    int r;

    *ret = ledger_find_row(ledger, uuid);
    if (*ret)
        return 0;
    r = ledger_add_row(ledger, uuid, ledger->last_id + 1, ret);
    if (r == 0)
        ledger->last_id++;
    return r;
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
    int r = ledger_get_row(ledger, uuid, &row);

    if (r < 0)
        return r;
    if (row->name[0] == '\0')
        uuid_unparse_lower(uuid, row->name);
    row->prepared_until_ns = time_ns + LEDGER_PREPARED_NS;
    return 0;
}

/* Somebody may hold its tree, or is about to, who has not been seen yet. */
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

/* What a guest has seen stays, whichever zones and source there are now. */
uint64_t ledger_shown_total(const struct ledger *ledger, const struct row *row, enum zone_kind kind)
{
    uint64_t sum = 0;

    for (size_t a = 0; a < ledger->n_totals; a++)
        if (ledger->totals[a].kind == kind)
            sum += row->energies[a].dynamic_uj + row->energies[a].static_uj;
    return sum;
}

/* The next ramps begin where the published values are now, so that they never step. */
static void advance_ramps(struct row *row, const struct ledger *ledger, uint64_t now)
{
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        enum zone_kind kind = tree_kinds[zone];
        struct ramp *ramp = &row->tree[zone];
        uint64_t to_uj;

        ramp->from_uj = ramp_value(ramp, ledger->ramp_start_ns, ledger->config.interval_ns, now);
        to_uj = ledger_shown_total(ledger, row, kind);
        if (to_uj > row->ceiling_uj[kind])
            to_uj = row->ceiling_uj[kind];
        if (ramp->to_uj < to_uj)
            ramp->to_uj = to_uj;
    }
}

void ledger_settle_ramps(const struct ledger *ledger, struct row *row)
{
    for (unsigned zone = 0; zone < TREE_ZONES; zone++)
        row->tree[zone].from_uj = row->tree[zone].to_uj =
            ledger_shown_total(ledger, row, tree_kinds[zone]);
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

/* What its guest found where it came from must not vanish. */
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
        /* Readers look for zones once: the set changes only while nobody can hold it. */
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

/* Its fractions go to the host, which may thereby complete a carried microjoule. */
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
        *link = row->next;
        ledger->n_rows--;
        tdelete(row, &ledger->by_uuid, compare_row);
        fold_row(ledger, row);
        forget(row->id, userdata);
        free(row);
    }
}
