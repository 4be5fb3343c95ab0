/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Enters one interval's energy, zone by zone: for the host and the VMs. */

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

/* The entities' energy of the zones that the platform contains, and of its block devices. */
static void weigh_platform(const struct ledger *ledger, const struct usage *usage, uint64_t *ret)
{
    for (size_t i = 0; i < ledger->division.n; i++) {
        __uint128_t io_pj = (__uint128_t)usage_entity(usage, i)->io_bytes * ledger->io_pj_per_byte;

        ret[i] = ledger->division.contained_uj[i] + (uint64_t)(io_pj / 1000000);
    }
}

/* One interval, by slot. */
struct interval {
    const struct zone_set *zones;
    const struct sample *sample;
    const struct usage *usage;
    const struct static_power *static_powers;
};

static void weigh(const struct ledger *ledger, size_t slot, const struct interval *interval,
                  uint64_t *ret)
{
    const struct attribution_model *model = ledger->config.model;

    if (slot == ledger->platform_slot)
        weigh_platform(ledger, interval->usage, ret);
    else
        model->ops->weights(model, &interval->zones->zones[slot], interval->usage, ret);
}

/* Divides the dynamic energy over host and VMs; division.shares then has the part of each. */
static void divide_dynamic(struct ledger *ledger, size_t slot, const struct interval *interval,
                           uint64_t energy_uj)
{
    enum zone_kind kind = interval->zones->zones[slot].kind;
    struct zone_totals *totals = ledger->slots[slot];
    size_t a = totals_index(ledger, totals);
    struct division *d = &ledger->division;

    memset(d->shares, 0, d->n * sizeof(*d->shares));
    weigh(ledger, slot, interval, d->weights);
    /* The usage is that of the last interval only, and says nothing about a gap. */
    if (interval->sample->zones[slot].gap || sum_weights(d->weights, d->n) == 0) {
        totals->unattributed_uj += energy_uj;
        return;
    }
    d->fractions[0] = totals->host_fraction;
    for (size_t i = 1; i < d->n; i++)
        d->fractions[i] = d->rows[i]->energies[a].dynamic_fraction;
    share_divide(energy_uj, d->weights, d->n, d->fractions, &totals->remainder_uj, d->shares);
    totals->host_fraction = d->fractions[0];
    totals->host_uj += d->shares[0];
    if (kind == ZONE_PACKAGE || kind == ZONE_DRAM)
        for (size_t i = 0; i < d->n; i++)
            d->contained_uj[i] += d->shares[i];
    for (size_t i = 1; i < d->n; i++) {
        d->rows[i]->energies[a].dynamic_fraction = d->fractions[i];
        d->rows[i]->energies[a].dynamic_uj += d->shares[i];
    }
}

/* Gives the VMs their parts of the static energy; division.shares still has the dynamic ones. */
static void divide_static(struct ledger *ledger, const struct zone_totals *totals,
                          uint64_t energy_uj)
{
    size_t a = totals_index(ledger, totals);
    struct division *d = &ledger->division;
    uint64_t remainder_uj = 0; /* stays in the static row */

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

static void record_zone(struct ledger *ledger, size_t slot, const struct interval *interval)
{
    const struct sample_zone *sample = &interval->sample->zones[slot];
    const struct static_power *static_power = &interval->static_powers[slot];
    struct attribution_model *model = ledger->config.model;
    struct zone_totals *totals = ledger->slots[slot];
    uint64_t dynamic_uj;

    if (!sample->valid || !totals)
        return;
    totals->split.power_uw = static_power->power_uw + (uint64_t)static_power->drift_uw;
    if (static_power_is_learned(static_power))
        totals->learned = *static_power;
    dynamic_uj = static_split_energy(&totals->split, sample->energy_uj, sample->duration_ns);
    totals->measured_uj += sample->energy_uj;
    totals->static_uj += sample->energy_uj - dynamic_uj;
    if (model->ops->learn && slot != ledger->platform_slot && !sample->gap)
        model->ops->learn(model, slot, &interval->zones->zones[slot], sample, interval->usage);
    divide_dynamic(ledger, slot, interval, dynamic_uj);
    divide_static(ledger, totals, sample->energy_uj - dynamic_uj);
}

static void record_zones(struct ledger *ledger, const struct interval *interval)
{
    memset(ledger->division.contained_uj, 0, ledger->division.n * sizeof(uint64_t));
    for (size_t slot = 0; slot < interval->zones->n; slot++)
        if (slot != ledger->platform_slot)
            record_zone(ledger, slot, interval);
    /* Last: it is divided by the other zones' shares. */
    if (ledger->platform_slot < interval->zones->n)
        record_zone(ledger, ledger->platform_slot, interval);
}

int ledger_record(struct ledger *ledger, const struct zone_set *zones, const struct sample *sample,
                  const struct usage *usage, const struct static_power *static_powers)
{
    const struct interval interval = {zones, sample, usage, static_powers};
    int r = list_entities(ledger, usage);

    if (r < 0)
        return r;
    ledger_map_zones(ledger, zones);
    record_zones(ledger, &interval);
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
