/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger_migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/ledger_internal.h"
#include "ledger/ledger_reserve.h"
#include "util/log.h"

/* All VMs' energy from elsewhere together: far from LEDGER_TOTAL_MAX. */
#define ELSEWHERE_MAX_UJ (LEDGER_TOTAL_MAX / 2)

/* The metadata of an idle VM is written once a minute; the VM arrives at most this far ahead. */
#define BOUND_RESERVE_MIN_UJ (10 * UINT64_C(1000000))

/* The totals of the energy used elsewhere in zones of a kind; NULL: there is none. */
static struct zone_totals *find_elsewhere(struct ledger *ledger, enum zone_kind kind)
{
    for (size_t a = 0; a < ledger->n_totals; a++)
        if (ledger->totals[a].kind == kind &&
            strcmp(ledger->totals[a].source, LEDGER_SOURCE_ELSEWHERE) == 0)
            return &ledger->totals[a];
    return NULL;
}

static struct zone_totals *get_elsewhere(struct ledger *ledger, enum zone_kind kind)
{
    static const char *const names[ZONE_KINDS] = {
        [ZONE_PACKAGE] = "package",
        [ZONE_CORE] = "core",
        [ZONE_DRAM] = "dram",
        [ZONE_PSYS] = "psys",
    };

    if (!names[kind])
        return NULL;
    return ledger_get_totals(ledger, LEDGER_SOURCE_ELSEWHERE, names[kind], kind);
}

/* The energy that is shown in advance; NULL: there is none. */
static uint64_t *ahead_of(struct ledger *ledger, struct row *row, enum zone_kind kind)
{
    const struct zone_totals *totals = find_elsewhere(ledger, kind);

    return totals ? &row->energies[totals_index(ledger, totals)].static_uj : NULL;
}

/* The energy that the VM has used on any host: what it is shown, less what is shown in advance. */
static uint64_t used_total(struct ledger *ledger, struct row *row, enum zone_kind kind)
{
    const uint64_t *ahead = ahead_of(ledger, row, kind);

    return ledger_shown_total(ledger, row, kind) - (ahead ? *ahead : 0);
}

void ledger_begin_run(struct ledger *ledger, struct row *row)
{
    row->start_number = 0;
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        row->start_uj[kind] = used_total(ledger, row, kind);
        row->ceiling_uj[kind] = UINT64_MAX;
    }
}

/* Enters the energy that the VM used elsewhere; its tree then shows at least the bound. */
static void take_zone(struct ledger *ledger, struct row *row, enum zone_kind kind, uint64_t more,
                      uint64_t bound)
{
    uint64_t shown = ledger_shown_total(ledger, row, kind);
    struct zone_totals *totals = get_elsewhere(ledger, kind);
    struct image_energy *energy;

    if (!totals)
        return;
    if (more > ELSEWHERE_MAX_UJ - totals->measured_uj) {
        log_warning("a VM's metadata claims more energy than is possible: it is ignored",
                    F_STRING("name", row->name), F_UINT("energy_uj", more));
        return;
    }
    energy = &row->energies[totals_index(ledger, totals)];
    totals->measured_uj += more;
    energy->dynamic_uj += more;
    row->migrated_kinds |= 1u << kind;
    row->floor_uj[kind] = shown > bound ? shown : bound;
}

void ledger_take_arrival(struct ledger *ledger, struct row *row, const struct vm *vm)
{
    const struct migrated_energy *energy = &vm->arrival.energy;
    bool taken = false;

    if (vm->start_number == 0 || vm->start_number == row->start_number)
        return;
    row->start_number = vm->start_number;
    for (unsigned kind = 0; vm->arrival.present && kind < ZONE_KINDS; kind++) {
        uint64_t start = row->start_uj[kind];
        uint64_t more = energy->total_uj[kind] > start ? energy->total_uj[kind] - start : 0;
        bool is_unseen =
            !vm->arrival.own && energy->bound_uj[kind] > ledger_shown_total(ledger, row, kind);

        if (more == 0 && !is_unseen)
            continue;
        take_zone(ledger, row, kind, more, energy->bound_uj[kind]);
        taken = true;
    }
    if (!taken)
        return;
    ledger_hold_floors(ledger, row);
    log_info("a VM continues its counter", F_STRING("name", row->name),
             F_UINT("package_uj", energy->total_uj[ZONE_PACKAGE]),
             F_STRING("written", vm->arrival.own ? "here" : "elsewhere"));
}

void ledger_hold_floors(struct ledger *ledger, struct row *row)
{
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        uint64_t *ahead, used;

        if (row->floor_uj[kind] == 0)
            continue;
        ahead = ahead_of(ledger, row, kind);
        used = used_total(ledger, row, kind);
        *ahead = row->floor_uj[kind] > used ? row->floor_uj[kind] - used : 0;
        if (*ahead == 0)
            row->floor_uj[kind] = 0;
    }
}

void ledger_restore_floors(struct ledger *ledger, struct row *row)
{
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        const uint64_t *ahead = ahead_of(ledger, row, kind);

        if (ahead && *ahead > 0)
            row->floor_uj[kind] = ledger_shown_total(ledger, row, kind);
    }
}

static void fill_departure(struct ledger *ledger, struct row *row, uint64_t elapsed_ns,
                           struct vm_departure *departure)
{
    uuid_copy(departure->uuid, row->uuid);
    departure->start_number = row->start_number;
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        uint64_t shown = ledger_shown_total(ledger, row, kind);
        uint64_t before = row->listed_uj[kind] ? row->listed_uj[kind] : shown;

        row->listed_uj[kind] = shown;
        departure->energy.total_uj[kind] = used_total(ledger, row, kind);
        departure->energy.bound_uj[kind] = shown;
        departure->need_uj[kind] = shown;
        departure->ceiling_uj[kind] = UINT64_MAX;
        if (shown == 0)
            continue;
        departure->energy.bound_uj[kind] +=
            ledger_reserve_uj(shown - before, elapsed_ns, BOUND_RESERVE_MIN_UJ);
        departure->need_uj[kind] += 2 * (shown - before);
    }
}

int ledger_list_departures(struct ledger *ledger, uint64_t now, struct vm_departure **ret,
                           size_t *ret_n)
{
    struct vm_departure *departures = calloc(ledger->n_rows + 1, sizeof(*departures));
    uint64_t elapsed_ns = ledger->listed_ns ? now - ledger->listed_ns : 0;
    size_t n = 0;

    if (!departures)
        return -ENOMEM;
    for (struct row *row = ledger->rows; row; row = row->next)
        if (row->running && row->start_number > 0)
            fill_departure(ledger, row, elapsed_ns, &departures[n++]);
    ledger->listed_ns = now;
    *ret = departures;
    *ret_n = n;
    return 0;
}

void ledger_set_ceilings(struct ledger *ledger, const struct vm_departure *departures, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct row *row = ledger_find_row(ledger, departures[i].uuid);

        if (row)
            memcpy(row->ceiling_uj, departures[i].ceiling_uj, sizeof(row->ceiling_uj));
    }
}
