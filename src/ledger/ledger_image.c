/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger_image.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#include "ledger/ledger_internal.h"

static const char magic[8] = "vjledger";

/* These sizes, without padding, are part of the format. */
_Static_assert(sizeof(struct image_head) == 96, "head");
_Static_assert(sizeof(struct image_totals) == 160, "zone totals");
_Static_assert(sizeof(struct image_row) == 304, "row");
_Static_assert(sizeof(struct image_energy) == 32, "energy");

#define CHECKSUM_END (offsetof(struct image_head, checksum) + sizeof(uint64_t))

static size_t row_size(size_t n_totals)
{
    return sizeof(struct image_row) + n_totals * sizeof(struct image_energy);
}

size_t ledger_image_size(size_t n_totals, size_t n_rows)
{
    return sizeof(struct image_head) + n_totals * sizeof(struct image_totals) +
           n_rows * row_size(n_totals);
}

int ledger_image_init(struct buffer *buffer, size_t n_totals, size_t n_rows)
{
    size_t size = ledger_image_size(n_totals, n_rows);
    struct image_head *head;
    int r = buffer_fill(buffer, size);

    if (r < 0)
        return r;
    head = (struct image_head *)buffer->bytes;
    memcpy(head->magic, magic, sizeof(magic));
    head->version = LEDGER_IMAGE_VERSION;
    head->size = size;
    head->n_totals = (uint32_t)n_totals;
    head->n_rows = (uint32_t)n_rows;
    return 0;
}

static uint64_t checksum(const void *bytes, size_t size)
{
    return XXH3_64bits((const unsigned char *)bytes + CHECKSUM_END, size - CHECKSUM_END);
}

void ledger_image_seal(void *bytes)
{
    struct image_head *head = bytes;

    head->checksum = checksum(bytes, head->size);
}

struct ledger_image ledger_image_view(void *bytes)
{
    struct image_head *head = bytes;
    struct image_totals *totals = (struct image_totals *)(head + 1);

    return (struct ledger_image){
        .head = head,
        .totals = totals,
        .rows = (unsigned char *)(totals + head->n_totals),
    };
}

struct image_row *ledger_image_row(const struct ledger_image *image, size_t i)
{
    assert(i < image->head->n_rows);
    return (struct image_row *)(image->rows + i * row_size(image->head->n_totals));
}

/* Parsing. */

/* @return 0 if the size matches the counts, and the checksum the bytes */
static int check_frame(const void *bytes, size_t size)
{
    const struct image_head *head = bytes;
    uint32_t version;

    if (size < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0)
        return -ENOMSG;
    if (size < offsetof(struct image_head, zero))
        return -EBADMSG;
    memcpy(&version, (const char *)bytes + offsetof(struct image_head, version), sizeof(version));
    if (version != LEDGER_IMAGE_VERSION)
        return -EPROTONOSUPPORT;
    if (size < sizeof(*head) || head->size != size || head->zero != 0)
        return -EBADMSG;
    if (head->n_totals > ZONES_MAX || head->n_rows == 0 || head->n_rows > size ||
        ledger_image_size(head->n_totals, head->n_rows) != size)
        return -EBADMSG;
    return head->checksum == checksum(bytes, size) ? 0 : -EBADMSG;
}

static bool is_text(const char *text, size_t size)
{
    return text[0] != '\0' && memchr(text, '\0', size) != NULL;
}

static bool is_known_twice(const struct ledger_image *image, size_t index)
{
    const struct image_totals *totals = image->totals;

    for (size_t i = 0; i < index; i++)
        if (strcmp(totals[i].source, totals[index].source) == 0 &&
            strcmp(totals[i].name, totals[index].name) == 0)
            return true;
    return false;
}

/* vm + host + static + unattributed + remainder = measured */
static bool is_balanced(const struct ledger_image *image, size_t i)
{
    const struct image_totals *totals = &image->totals[i];
    __uint128_t sum = (__uint128_t)totals->host_uj + totals->static_uj + totals->unattributed_uj +
                      totals->remainder_uj;

    for (size_t r = 0; r < image->head->n_rows; r++)
        sum += image_row_energies(ledger_image_row(image, r))[i].dynamic_uj;
    return sum == totals->measured_uj;
}

static bool is_learned(const struct image_totals *totals)
{
    static const uint64_t most_uw = ZONE_POWER_MAX_W * UINT64_C(1000000);

    return totals->learned_known <= 1 && totals->learned_uw <= most_uw &&
           totals->learned_uncertainty_uw <= most_uw;
}

static bool is_totals(const struct ledger_image *image, size_t i)
{
    const struct image_totals *totals = &image->totals[i];

    return memchr(totals->source, '\0', sizeof(totals->source)) &&
           is_text(totals->name, sizeof(totals->name)) && !is_known_twice(image, i) &&
           totals->kind <= ZONE_PSYS && totals->reading_valid <= 1 && is_learned(totals) &&
           totals->measured_uj <= LEDGER_TOTAL_MAX && totals->static_deficit_uj <= 0 &&
           totals->static_deficit_uj > INT64_MIN / 2 && is_balanced(image, i);
}

static bool is_row(const struct ledger_image *image, size_t i)
{
    struct image_row *row = ledger_image_row(image, i);
    const struct image_energy *energies = image_row_energies(row);
    uint64_t above = i ? ledger_image_row(image, i - 1)->id : image->head->last_id + UINT64_C(1);
    bool last = i + 1 == image->head->n_rows;

    if (row->id == 0 || row->id >= above || uuid_is_null(row->uuid) != last)
        return false;
    if (row->manager > VM_MANAGER_KUBEVIRT || !memchr(row->name, '\0', sizeof(row->name)))
        return false;
    if (row->cpu_ns > LEDGER_TOTAL_MAX || row->io_bytes > LEDGER_TOTAL_MAX)
        return false;
    for (size_t a = 0; a < image->head->n_totals; a++)
        if (energies[a].static_uj > LEDGER_TOTAL_MAX)
            return false;
    return true;
}

int ledger_image_parse(void *bytes, size_t size, struct ledger_image *ret)
{
    struct ledger_image image;
    int r = check_frame(bytes, size);

    if (r < 0)
        return r;
    image = ledger_image_view(bytes);
    for (size_t i = 0; i < image.head->n_totals; i++)
        if (!is_totals(&image, i))
            return -EBADMSG;
    for (size_t i = 0; i < image.head->n_rows; i++)
        if (!is_row(&image, i))
            return -EBADMSG;
    *ret = image;
    return 0;
}

void ledger_image_readings(const struct ledger_image *image, const char *source,
                           const struct zone_set *zones, uint64_t now, struct sampler *ret)
{
    for (size_t i = 0; i < image->head->n_totals; i++) {
        const struct image_totals *totals = &image->totals[i];

        if (strcmp(totals->source, source) != 0 || !totals->reading_valid ||
            totals->reading_ns > now)
            continue;
        for (size_t slot = 0; slot < zones->n; slot++) {
            /* A reading beyond the counter's range is of another counter. */
            if (strcmp(zones->zones[slot].name, totals->name) != 0 ||
                totals->reading_uj > zones->zones[slot].max_energy_uj)
                continue;
            ret->last[slot] = (struct reading){true, totals->reading_uj, totals->reading_ns};
            ret->gap[slot] = totals->reading_ns < image->head->time_ns;
        }
    }
}

/* Saving and loading. */

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

static void load_totals(struct zone_totals *totals, const struct image_totals *image)
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
    if (image->learned_known || image->learned_uw > 0)
        totals->learned = (struct static_power){
            .origin = image->learned_known ? STATIC_FROM_LOAD : STATIC_FLOOR,
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

static void load_row(struct row *row, struct image_row *image, size_t n_totals)
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
                const struct ledger_stamp *stamp, struct buffer *ret)
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

static int load_rows(struct ledger *ledger, const struct ledger_image *image)
{
    size_t n = image->head->n_rows - 1;

    /* The oldest first: each is added as the newest. */
    for (size_t i = n; i-- > 0;) {
        struct image_row *saved = ledger_image_row(image, i);
        struct row *row;
        int r = ledger_add_row(ledger, saved->uuid, saved->id, &row);

        if (r < 0)
            return r == -EEXIST ? -EBADMSG : r;
        load_row(row, saved, ledger->n_totals);
    }
    load_row(&ledger->former, ledger_image_row(image, n), ledger->n_totals);
    for (size_t a = 0; a < ledger->n_totals; a++)
        ledger->has_former |= ledger->former.energies[a].dynamic_uj > 0;
    ledger->has_former |= ledger->former.cpu_ns > 0 || ledger->former.io_bytes > 0;
    return 0;
}

int ledger_load(struct ledger *ledger, const struct ledger_image *image)
{
    ledger->n_totals = image->head->n_totals;
    for (size_t a = 0; a < ledger->n_totals; a++)
        load_totals(&ledger->totals[a], &image->totals[a]);
    ledger->last_id = image->head->last_id;
    return load_rows(ledger, image);
}
