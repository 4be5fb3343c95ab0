/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "ledger/ledger_internal.h"

static struct image_totals save_totals(const struct zone_totals *totals)
{
    struct image_totals image = {
        .kind = totals->kind,
        .measured_uj = totals->measured_uj,
        .remainder_uj = totals->remainder_uj,
        .host_uj = totals->host_uj,
        .host_fraction = totals->host_fraction,
        .static_uj = totals->static_uj,
        .unattributed_uj = totals->unattributed_uj,
        .static_remainder = totals->split.remainder,
        .static_deficit_uj = totals->split.deficit_uj,
        .learned_known = totals->learned.origin == STATIC_FROM_LOAD,
        .learned_uw = totals->learned.power_uw,
        .learned_uncertainty_uw = totals->learned.uncertainty_uw,
    };

    memcpy(image.source, totals->source, sizeof(image.source));
    memcpy(image.name, totals->name, sizeof(image.name));
    return image;
}

static void restore_totals(struct zone_totals *totals, const struct image_totals *image)
{
    *totals = (struct zone_totals){
        .kind = (enum zone_kind)image->kind,
        .split = {.remainder = image->static_remainder, .deficit_uj = image->static_deficit_uj},
        .measured_uj = image->measured_uj,
        .remainder_uj = image->remainder_uj,
        .host_uj = image->host_uj,
        .host_fraction = image->host_fraction,
        .static_uj = image->static_uj,
        .unattributed_uj = image->unattributed_uj,
    };
    if (image->learned_known)
        totals->learned = (struct static_power){
            .origin = STATIC_FROM_LOAD,
            .state = STATIC_LEARNING,
            .power_uw = image->learned_uw,
            .uncertainty_uw = image->learned_uncertainty_uw,
        };
    memcpy(totals->source, image->source, sizeof(totals->source));
    memcpy(totals->name, image->name, sizeof(totals->name));
}

static void save_row(const struct row *row, size_t n_totals, struct image_row *image)
{
    uuid_copy(image->uuid, row->uuid);
    image->id = row->id;
    image->vcpus = row->vcpus;
    image->manager = row->manager;
    image->tree_zones = row->tree_zones;
    image->cpu_ns = row->cpu_ns;
    image->io_bytes = row->io_bytes;
    memcpy(image->name, row->name, sizeof(image->name));
    memcpy(image_row_energies(image), row->energies, n_totals * sizeof(*row->energies));
}

static void restore_row(struct row *row, struct image_row *image, size_t n_totals)
{
    row->vcpus = image->vcpus;
    row->manager = (enum vm_manager)image->manager;
    row->tree_zones = image->tree_zones & ((1u << TREE_ZONES) - 1);
    row->cpu_ns = image->cpu_ns;
    row->io_bytes = image->io_bytes;
    memcpy(row->name, image->name, sizeof(row->name));
    memcpy(row->energies, image_row_energies(image), n_totals * sizeof(*row->energies));
}

static void save_readings(const struct ledger *ledger, const struct sampler *sampler,
                          struct image_totals *saved)
{
    for (size_t slot = 0; slot < ledger->n_slots; slot++) {
        const struct reading *reading = &sampler->last[slot];
        struct image_totals *totals;

        if (!ledger->slots[slot])
            continue;
        totals = &saved[totals_index(ledger, ledger->slots[slot])];
        totals->reading_valid = reading->valid;
        totals->reading_uj = reading->energy_uj;
        totals->reading_ns = reading->time_ns;
    }
}

int ledger_save(const struct ledger *ledger, const struct sampler *sampler,
                const struct ledger_stamp *stamp, struct ledger_buffer *ret)
{
    struct ledger_image image;
    size_t i = 0;
    int r = ledger_image_init(ret, ledger->n_totals, ledger->n_rows + 1);

    if (r < 0)
        return r;
    image = ledger_image_view(ret->bytes);
    image.head->sequence = stamp->sequence;
    image.head->time_ns = stamp->time_ns;
    image.head->identity = stamp->identity;
    image.head->last_id = ledger->last_id;
    for (size_t a = 0; a < ledger->n_totals; a++)
        image.totals[a] = save_totals(&ledger->totals[a]);
    save_readings(ledger, sampler, image.totals);
    for (const struct row *row = ledger->rows; row; row = row->next)
        save_row(row, ledger->n_totals, ledger_image_row(&image, i++));
    save_row(&ledger->former, ledger->n_totals, ledger_image_row(&image, i));
    ledger_image_seal(ret->bytes);
    return 0;
}

static int restore_rows(struct ledger *ledger, const struct ledger_image *image, uint64_t now)
{
    size_t n = image->head->n_rows - 1;

    /* The oldest first: each is added as the newest. */
    for (size_t i = n; i-- > 0;) {
        struct image_row *saved = ledger_image_row(image, i);
        struct row *row;
        int r = ledger_add_row(ledger, saved->uuid, saved->id, &row);

        if (r < 0)
            return r == -EEXIST ? -EBADMSG : r;
        restore_row(row, saved, ledger->n_totals);
        row->last_seen_ns = now;
        row->awaited_until_ns = now + LEDGER_AWAIT_NS;
        ledger_settle_ramps(ledger, row);
        ledger_restore_floors(ledger, row);
    }
    restore_row(&ledger->former, ledger_image_row(image, n), ledger->n_totals);
    for (size_t a = 0; a < ledger->n_totals; a++)
        ledger->has_former |= ledger->former.energies[a].dynamic_uj > 0;
    ledger->has_former |= ledger->former.cpu_ns > 0 || ledger->former.io_bytes > 0;
    return 0;
}

int ledger_restore(struct ledger *ledger, const struct ledger_image *image, uint64_t now)
{
    int r;

    ledger_reset(ledger);
    ledger->n_totals = image->head->n_totals;
    for (size_t a = 0; a < ledger->n_totals; a++)
        restore_totals(&ledger->totals[a], &image->totals[a]);
    ledger->last_id = image->head->last_id;
    r = restore_rows(ledger, image, now);
    if (r < 0)
        ledger_reset(ledger);
    return r;
}
