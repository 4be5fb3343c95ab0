/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The ledger's rows and zone totals: finding, adding and removing them. */

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/ledger_internal.h"
#include "util/log.h"

static int compare_row(const void *a, const void *b)
{
    return uuid_compare(((const struct row *)a)->uuid, ((const struct row *)b)->uuid);
}

static void ignore_node(void *node)
{
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

struct row *ledger_take_row(struct ledger *ledger, struct row **link)
{
    struct row *row = *link;

    *link = row->next;
    ledger->n_rows--;
    tdelete(row, &ledger->by_uuid, compare_row);
    return row;
}

struct zone_totals *ledger_find_totals(const struct ledger *ledger, const char *source,
                                       const char *name)
{
    for (size_t i = 0; i < ledger->n_totals; i++) {
        const struct zone_totals *totals = &ledger->totals[i];

        if (strcmp(totals->source, source) == 0 && strcmp(totals->name, name) == 0)
            return (struct zone_totals *)totals;
    }
    return NULL;
}

struct zone_totals *ledger_get_totals(struct ledger *ledger, const char *source, const char *name,
                                      enum zone_kind kind)
{
    struct zone_totals *totals = ledger_find_totals(ledger, source, name);

    if (totals)
        return totals;
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

/* A guest goes on seeing what it has seen, whichever zones and source there are now. */
uint64_t ledger_shown_total(const struct ledger *ledger, const struct row *row, enum zone_kind kind)
{
    uint64_t sum = 0;

    for (size_t a = 0; a < ledger->n_totals; a++)
        if (ledger->totals[a].kind == kind)
            sum += row->energies[a].dynamic_uj + row->energies[a].static_uj;
    return sum;
}
