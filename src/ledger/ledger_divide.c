/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One interval's energy: zone by zone to host and VMs. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/share.h"
#include "ledger/ledger_internal.h"

void ledger_division_deinit(struct division *division)
{
    free(division->rows);
    free(division->weights);
    free(division->fractions);
    free(division->shares);
    free(division->contained_uj);
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
    grown.contained_uj = calloc(n, sizeof(*grown.contained_uj));
    if (!grown.rows || !grown.weights || !grown.fractions || !grown.shares || !grown.contained_uj) {
        ledger_division_deinit(&grown);
        return -ENOMEM;
    }
    ledger_division_deinit(&ledger->division);
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
        r = ledger_get_row(ledger, usage->vms[i].uuid, &division->rows[i + 1]);
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

/* By what they used of the zones that the platform contains, and of its disks. */
static void weigh_platform(const struct ledger *ledger, const struct usage *usage, uint64_t *ret)
{
    for (size_t i = 0; i < ledger->division.n; i++) {
        __uint128_t io_pj = (__uint128_t)usage_entity(usage, i)->io_bytes * ledger->io_pj_per_byte;

        ret[i] = ledger->division.contained_uj[i] + (uint64_t)(io_pj / 1000000);
    }
}

/* Divides the dynamic energy over host and VMs; division.shares tell what each got. */
static void divide_dynamic(struct ledger *ledger, size_t slot, const struct zone *zone,
                           const struct usage *usage, uint64_t energy_uj, bool gap)
{
    struct zone_totals *totals = ledger->slots[slot];
    size_t a = totals_index(ledger, totals);
    struct division *d = &ledger->division;

    memset(d->shares, 0, d->n * sizeof(*d->shares));
    if (slot == ledger->platform_slot)
        weigh_platform(ledger, usage, d->weights);
    else
        ledger->config.model->ops->weights(ledger->config.model, zone, usage, d->weights);
    /* The usage at hand is that of the last interval only: it says nothing about a gap. */
    if (gap || sum_weights(d->weights, d->n) == 0) {
        totals->unattributed_uj += energy_uj;
        return;
    }
    d->fractions[0] = totals->host_fraction;
    for (size_t i = 1; i < d->n; i++)
        d->fractions[i] = d->rows[i]->energies[a].dynamic_fraction;
    share_divide(energy_uj, d->weights, d->n, d->fractions, &totals->remainder_uj, d->shares);
    totals->host_fraction = d->fractions[0];
    totals->host_uj += d->shares[0];
    if (zone->kind == ZONE_PACKAGE || zone->kind == ZONE_DRAM)
        for (size_t i = 0; i < d->n; i++)
            d->contained_uj[i] += d->shares[i];
    for (size_t i = 1; i < d->n; i++) {
        d->rows[i]->energies[a].dynamic_fraction = d->fractions[i];
        d->rows[i]->energies[a].dynamic_uj += d->shares[i];
    }
}

/* Shows the VMs their parts of the static energy; division.shares still hold the dynamic ones. */
static void divide_static(struct ledger *ledger, const struct zone_totals *totals,
                          uint64_t energy_uj)
{
    size_t a = totals_index(ledger, totals);
    struct division *d = &ledger->division;
    uint64_t remainder_uj = 0; /* the rest stays in the static row */

    d->weights[0] = 0;
    for (size_t i = 1; i < d->n; i++)
        d->weights[i] =
            static_policy_weight(ledger->config.static_policy, d->rows[i]->vcpus, d->shares[i]);
    if (sum_weights(d->weights, d->n) == 0)
        return;
    d->fractions[0] = 0;
    for (size_t i = 1; i < d->n; i++)
        d->fractions[i] = d->rows[i]->energies[a].static_fraction;
    share_divide(energy_uj, d->weights, d->n, d->fractions, &remainder_uj, d->shares);
    for (size_t i = 1; i < d->n; i++) {
        d->rows[i]->energies[a].static_fraction = d->fractions[i];
        d->rows[i]->energies[a].static_uj += d->shares[i];
    }
}

static void record_zone(struct ledger *ledger, size_t slot, const struct zone *zone,
                        const struct sample_zone *sample, const struct usage *usage)
{
    struct attribution_model *model = ledger->config.model;
    struct zone_totals *totals = ledger->slots[slot];
    uint64_t dynamic_uj;

    if (!sample->valid || !totals)
        return;
    totals->split.power_uw = ledger->static_powers[slot].power_uw;
    if (ledger->static_powers[slot].origin == STATIC_FROM_LOAD)
        totals->learned = ledger->static_powers[slot];
    dynamic_uj = static_split_energy(&totals->split, sample->energy_uj, sample->duration_ns);
    totals->measured_uj += sample->energy_uj;
    totals->static_uj += sample->energy_uj - dynamic_uj;
    if (model->ops->learn && slot != ledger->platform_slot && !sample->gap)
        model->ops->learn(model, slot, zone, sample, usage);
    divide_dynamic(ledger, slot, zone, usage, dynamic_uj, sample->gap);
    divide_static(ledger, totals, sample->energy_uj - dynamic_uj);
}

int ledger_record(struct ledger *ledger, const struct zone_set *zones, const struct sample *sample,
                  const struct usage *usage)
{
    int r = list_entities(ledger, usage);

    if (r < 0)
        return r;
    ledger_map_zones(ledger, zones);
    memset(ledger->division.contained_uj, 0, ledger->division.n * sizeof(uint64_t));
    for (size_t slot = 0; slot < zones->n; slot++)
        if (slot != ledger->platform_slot)
            record_zone(ledger, slot, &zones->zones[slot], &sample->zones[slot], usage);
    if (ledger->platform_slot < zones->n)
        record_zone(ledger, ledger->platform_slot, &zones->zones[ledger->platform_slot],
                    &sample->zones[ledger->platform_slot], usage);
    for (struct row *row = ledger->rows; row; row = row->next) {
        row->memory_bytes = 0;
        ledger_hold_floors(ledger, row);
    }
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
