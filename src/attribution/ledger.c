/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/ledger.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/share.h"
#include "util/cleanup.h"

/* One VM's totals. */
struct row {
    uuid_t uuid; /* first: the search key */
    uint32_t id;
    char name[VM_NAME_MAX];
    enum vm_manager manager;
    bool defined;
    bool running;
    unsigned vcpus;
    unsigned tree_zones;
    uint64_t last_seen_ns; /* when it was last in the VM table */
    uint64_t dynamic_uj[ZONES_MAX];
    uint64_t dynamic_fraction[ZONES_MAX];
    uint64_t static_uj[ZONES_MAX];
    uint64_t static_fraction[ZONES_MAX];
    uint64_t cpu_ns;
    uint64_t io_bytes;
    uint64_t memory_bytes;
    struct ramp tree[TREE_ZONES];
    struct row *next;
};

/* One zone's totals. */
struct account {
    struct baseline baseline;
    uint64_t measured_uj;
    uint64_t carried_uj;
    uint64_t host_uj;
    uint64_t host_fraction;
    uint64_t static_uj;
    uint64_t unattributed_uj;
};

/* Work space for one interval: entity 0 is the host, entity i > 0 is rows[i]. */
struct division {
    size_t n;
    struct row **rows;
    uint64_t *weights;
    uint64_t *fractions;
    uint64_t *shares;
};

struct ledger {
    struct ledger_config config;
    struct account accounts[ZONES_MAX];
    struct row *rows; /* newest first */
    size_t n_rows;
    void *by_uuid; /* tsearch(3) tree of the same */
    uint32_t last_id;
    struct row former; /* what ended VMs had used */
    bool has_former;
    uint64_t ramp_start_ns;
    bool recorded; /* since the last snapshot */
    struct division division;
    size_t division_size;
};

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
    ledger->former.id = ++ledger->last_id;
    strcpy(ledger->former.name, "former");
    *ret = ledger;
    return 0;
}

static void division_deinit(struct division *division)
{
    free(division->rows);
    free(division->weights);
    free(division->fractions);
    free(division->shares);
}

struct ledger *ledger_free(struct ledger *ledger)
{
    if (!ledger)
        return NULL;
    tdestroy(ledger->by_uuid, ignore_node);
    while (ledger->rows) {
        struct row *row = ledger->rows;

        ledger->rows = row->next;
        free(row);
    }
    division_deinit(&ledger->division);
    free(ledger);
    return NULL;
}

void ledger_set_baseline(struct ledger *ledger, size_t slot, uint64_t power_uw)
{
    ledger->accounts[slot].baseline.power_uw = power_uw;
}

static int get_row(struct ledger *ledger, const uuid_t uuid, struct row **ret)
{
    struct row key, **known, *row;

    uuid_copy(key.uuid, uuid);
    known = tfind(&key, &ledger->by_uuid, compare_row);
    if (known) {
        *ret = *known;
        return 0;
    }
    row = calloc(1, sizeof(*row));
    if (!row)
        return -ENOMEM;
    uuid_copy(row->uuid, uuid);
    if (!tsearch(row, &ledger->by_uuid, compare_row)) {
        free(row);
        return -ENOMEM;
    }
    row->id = ++ledger->last_id;
    row->vcpus = 1;
    row->next = ledger->rows;
    ledger->rows = row;
    ledger->n_rows++;
    *ret = row;
    return 0;
}

int ledger_update_vms(struct ledger *ledger, const struct vm_table *vms, uint64_t time_ns)
{
    for (size_t i = 0; i < vms->n; i++) {
        struct row *row;
        int r = get_row(ledger, vms->vms[i].uuid, &row);

        if (r < 0)
            return r;
    }
    for (struct row *row = ledger->rows; row; row = row->next) {
        const struct vm *vm = vm_table_find(vms, row->uuid);

        row->defined = vm && vm->defined;
        row->running = vm && vm->running;
        if (!vm)
            continue;
        row->manager = vm->manager;
        row->vcpus = vm->vcpus;
        row->last_seen_ns = time_ns;
        memcpy(row->name, vm->name, sizeof(row->name));
    }
    return 0;
}

static int reserve_division(struct ledger *ledger, size_t n)
{
    struct division grown = {0};

    if (n <= ledger->division_size)
        return 0;
    n *= 2;
    grown.rows = calloc(n, sizeof(*grown.rows));
    grown.weights = calloc(n, sizeof(*grown.weights));
    grown.fractions = calloc(n, sizeof(*grown.fractions));
    grown.shares = calloc(n, sizeof(*grown.shares));
    if (!grown.rows || !grown.weights || !grown.fractions || !grown.shares) {
        division_deinit(&grown);
        return -ENOMEM;
    }
    division_deinit(&ledger->division);
    ledger->division = grown;
    ledger->division_size = n;
    return 0;
}

static int list_entities(struct ledger *ledger, const struct usage *usage)
{
    struct division *division = &ledger->division;
    int r = reserve_division(ledger, usage_n_entities(usage));

    if (r < 0)
        return r;
    division->n = usage_n_entities(usage);
    for (size_t i = 0; i < usage->n_vms; i++) {
        r = get_row(ledger, usage->vms[i].uuid, &division->rows[i + 1]);
        if (r < 0)
            return r;
    }
    return 0;
}

static uint64_t sum_weights(const uint64_t *weights, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += weights[i];
    return sum;
}

/* Divides the dynamic energy over host and VMs; division.shares tell what each got. */
static void divide_dynamic(struct ledger *ledger, size_t slot, const struct zone *zone,
                           const struct usage *usage, uint64_t energy_uj, bool gap)
{
    struct account *account = &ledger->accounts[slot];
    struct division *d = &ledger->division;

    memset(d->shares, 0, d->n * sizeof(*d->shares));
    ledger->config.model->ops->weights(ledger->config.model, zone, usage, d->weights);
    /* The usage at hand is that of the last interval only: it says nothing about a gap. */
    if (gap || sum_weights(d->weights, d->n) == 0) {
        account->unattributed_uj += energy_uj;
        return;
    }
    d->fractions[0] = account->host_fraction;
    for (size_t i = 1; i < d->n; i++)
        d->fractions[i] = d->rows[i]->dynamic_fraction[slot];
    share_divide(energy_uj, d->weights, d->n, d->fractions, &account->carried_uj, d->shares);
    account->host_fraction = d->fractions[0];
    account->host_uj += d->shares[0];
    for (size_t i = 1; i < d->n; i++) {
        d->rows[i]->dynamic_fraction[slot] = d->fractions[i];
        d->rows[i]->dynamic_uj[slot] += d->shares[i];
    }
}

/* Shows the VMs their parts of the static energy; division.shares still hold the dynamic ones. */
static void divide_static(struct ledger *ledger, size_t slot, uint64_t energy_uj)
{
    struct division *d = &ledger->division;
    uint64_t carried_uj = 0; /* the rest stays in the static row */

    d->weights[0] = 0;
    for (size_t i = 1; i < d->n; i++)
        d->weights[i] =
            static_policy_weight(ledger->config.static_policy, d->rows[i]->vcpus, d->shares[i]);
    if (sum_weights(d->weights, d->n) == 0)
        return;
    d->fractions[0] = 0;
    for (size_t i = 1; i < d->n; i++)
        d->fractions[i] = d->rows[i]->static_fraction[slot];
    share_divide(energy_uj, d->weights, d->n, d->fractions, &carried_uj, d->shares);
    for (size_t i = 1; i < d->n; i++) {
        d->rows[i]->static_fraction[slot] = d->fractions[i];
        d->rows[i]->static_uj[slot] += d->shares[i];
    }
}

int ledger_record(struct ledger *ledger, const struct zone_set *zones, const struct sample *sample,
                  const struct usage *usage)
{
    int r = list_entities(ledger, usage);

    if (r < 0)
        return r;
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct sample_zone *zone = &sample->zones[slot];
        struct account *account = &ledger->accounts[slot];
        uint64_t dynamic_uj;

        if (!zone->valid)
            continue;
        dynamic_uj = baseline_split(&account->baseline, zone->energy_uj, zone->duration_ns);
        account->measured_uj += zone->energy_uj;
        account->static_uj += zone->energy_uj - dynamic_uj;
        if (ledger->config.model->ops->learn && !zone->gap)
            ledger->config.model->ops->learn(ledger->config.model, slot, &zones->zones[slot], zone,
                                             usage);
        divide_dynamic(ledger, slot, &zones->zones[slot], usage, dynamic_uj, zone->gap);
        divide_static(ledger, slot, zone->energy_uj - dynamic_uj);
    }
    for (struct row *row = ledger->rows; row; row = row->next)
        row->memory_bytes = 0;
    for (size_t i = 1; i < ledger->division.n; i++) {
        const struct usage_amount *amount = usage_entity(usage, i);
        struct usage_socket used = usage_on_socket(amount, ZONE_ALL_SOCKETS);
        struct row *row = ledger->division.rows[i];

        row->cpu_ns += used.cpu_ns;
        row->io_bytes += amount->io_bytes;
        row->memory_bytes = used.memory_bytes;
    }
    ledger->recorded = true;
    return 0;
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

static uint64_t tree_total(const struct row *row, const struct zone_set *zones, enum tree_zone zone)
{
    static const enum zone_kind kinds[TREE_ZONES] = {
        [TREE_PACKAGE] = ZONE_PACKAGE,
        [TREE_CORE] = ZONE_CORE,
        [TREE_DRAM] = ZONE_DRAM,
        [TREE_PSYS] = ZONE_PSYS,
    };
    uint64_t sum = 0;

    for (size_t slot = 0; slot < zones->n; slot++)
        if (zones->zones[slot].kind == kinds[zone])
            sum += row->dynamic_uj[slot] + row->static_uj[slot];
    return sum;
}

/* The next ramps begin where the published values are now, so that they never step. */
static void advance_ramps(struct row *row, const struct ledger *ledger,
                          const struct zone_set *zones, uint64_t now)
{
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        struct ramp *ramp = &row->tree[zone];

        ramp->from_uj = ramp_value(ramp, ledger->ramp_start_ns, ledger->config.interval_ns, now);
        ramp->to_uj = tree_total(row, zones, zone);
    }
}

static void fill_vm(struct snapshot_vm *vm, const struct row *row)
{
    vm->id = row->id;
    uuid_copy(vm->uuid, row->uuid);
    uuid_unparse_lower(row->uuid, vm->uuid_text);
    memcpy(vm->name, row->name, sizeof(vm->name));
    vm->manager = row->manager;
    vm->running = row->running;
    vm->has_tree = row->running || row->defined;
    vm->vcpus = row->vcpus;
    vm->tree_zones = row->tree_zones;
    memcpy(vm->tree, row->tree, sizeof(vm->tree));
    memcpy(vm->dynamic_uj, row->dynamic_uj, sizeof(vm->dynamic_uj));
    memcpy(vm->static_uj, row->static_uj, sizeof(vm->static_uj));
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

static void fill_vms(struct ledger *ledger, const struct zone_set *zones, uint64_t now,
                     struct snapshot *snapshot)
{
    unsigned present = present_tree_zones(ledger, zones);

    for (struct row *row = ledger->rows; row; row = row->next) {
        /* Readers look for zones once: the set changes only while nobody can hold it. */
        if (!row->running || !row->tree_zones)
            row->tree_zones = present;
        if (ledger->recorded)
            advance_ramps(row, ledger, zones, now);
        fill_vm(&snapshot->vms[snapshot->n_vms++], row);
    }
    if (ledger->has_former)
        fill_vm(&snapshot->vms[snapshot->n_vms++], &ledger->former);
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
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct account *account = &ledger->accounts[slot];

        snapshot->zones[slot] = (struct snapshot_zone){
            .zone = zones->zones[slot],
            .readable = sample->zones[slot].valid,
            .measured_uj = account->measured_uj - account->carried_uj,
            .host_uj = account->host_uj,
            .static_uj = account->static_uj,
            .unattributed_uj = account->unattributed_uj,
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
    for (size_t slot = 0; slot < ZONES_MAX; slot++) {
        struct account *account = &ledger->accounts[slot];
        unsigned completed =
            share_merge_fraction(&account->host_fraction, row->dynamic_fraction[slot]);

        account->host_uj += completed;
        account->carried_uj -= completed;
        ledger->former.dynamic_uj[slot] += row->dynamic_uj[slot];
        ledger->former.static_uj[slot] += row->static_uj[slot];
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

        if (row->running || row->defined || now < row->last_seen_ns + LEDGER_KEEP_NS) {
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
