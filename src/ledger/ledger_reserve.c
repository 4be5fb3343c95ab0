/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ledger/ledger_reserve.h"

#include <string.h>

/* The rows of an image are in descending order of ids, so that one walk finds them all. */
struct row_walk {
    const struct ledger_image *image; /* NULL: nothing is found */
    size_t next;
};

static struct image_row *seek(struct row_walk *walk, uint32_t id)
{
    if (!walk->image)
        return NULL;
    for (; walk->next < walk->image->head->n_rows; walk->next++) {
        struct image_row *row = ledger_image_row(walk->image, walk->next);

        if (row->id <= id)
            return row->id == id ? row : NULL;
    }
    return NULL;
}

/* A row's energy; zero where the image has no such row, or not yet these zone totals. */
static struct image_energy energy_of(const struct ledger_image *image, struct image_row *row,
                                     size_t index)
{
    if (!row || index >= image->head->n_totals)
        return (struct image_energy){0};
    return image_row_energies(row)[index];
}

static struct image_totals totals_of(const struct ledger_image *image, size_t index)
{
    return index < image->head->n_totals ? image->totals[index] : (struct image_totals){0};
}

/* "former" grows when rows are folded into it, so its growth is not a rate to extrapolate. */
static bool is_former(const struct ledger_image *image, size_t row)
{
    return row + 1 == image->head->n_rows;
}

/* Adding a reserve. */

/* The images that totals are compared with. */
struct pace {
    struct ledger_image before;     /* one interval earlier */
    struct ledger_image checkpoint; /* the one before: its totals are kept up */
    uint64_t elapsed_ns;            /* the interval; 0: unknown, and so is any growth */
};

uint64_t ledger_reserve_uj(uint64_t growth_uj, uint64_t elapsed_ns, uint64_t least_uj)
{
    const uint64_t most = ZONE_POWER_MAX_W * (LEDGER_RESERVE_NS / NSEC_PER_SEC) * 1000000;
    __uint128_t amount =
        elapsed_ns ? (__uint128_t)growth_uj * LEDGER_RESERVE_NS / elapsed_ns : least_uj;

    if (amount > most)
        return most;
    return amount < least_uj ? least_uj : (uint64_t)amount;
}

static uint64_t reserve(uint64_t now, uint64_t before, uint64_t elapsed_ns)
{
    if (now <= before || elapsed_ns == 0)
        return 0;
    return ledger_reserve_uj(now - before, elapsed_ns, LEDGER_RESERVE_MIN_UJ);
}

/* @return what was added */
static uint64_t raise_total(uint64_t *total, uint64_t before, uint64_t checkpoint,
                            uint64_t elapsed_ns)
{
    uint64_t now = *total;

    *total += reserve(now, before, elapsed_ns);
    if (*total < checkpoint)
        *total = checkpoint;
    return *total - now;
}

/* CPU time and I/O are extrapolated linearly, without a minimum. */
static void extrapolate(uint64_t *total, uint64_t before, uint64_t elapsed_ns)
{
    if (*total > before && elapsed_ns > 0)
        *total += (uint64_t)((__uint128_t)(*total - before) * LEDGER_RESERVE_NS / elapsed_ns);
}

/* Energy that a VM brought with it arrives at once, and does not grow on. */
static bool is_final(const struct image_totals *totals)
{
    return strcmp(totals->source, LEDGER_SOURCE_ELSEWHERE) == 0;
}

static void raise_row(const struct ledger_image *image, struct image_row *row,
                      const struct pace *pace, struct image_row *before,
                      struct image_row *checkpoint)
{
    struct image_energy *energies = image_row_energies(row);

    for (size_t a = 0; a < image->head->n_totals; a++) {
        struct image_energy was = energy_of(&pace->before, before, a);
        struct image_energy least = energy_of(&pace->checkpoint, checkpoint, a);

        if (is_final(&image->totals[a]))
            continue;
        image->totals[a].measured_uj += raise_total(&energies[a].dynamic_uj, was.dynamic_uj,
                                                    least.dynamic_uj, pace->elapsed_ns);
        raise_total(&energies[a].static_uj, was.static_uj, least.static_uj, pace->elapsed_ns);
    }
    extrapolate(&row->cpu_ns, before ? before->cpu_ns : 0, pace->elapsed_ns);
    extrapolate(&row->io_bytes, before ? before->io_bytes : 0, pace->elapsed_ns);
}

static void raise_totals(struct image_totals *totals, struct image_totals was,
                         struct image_totals least, uint64_t elapsed_ns)
{
    totals->measured_uj +=
        raise_total(&totals->host_uj, was.host_uj, least.host_uj, elapsed_ns) +
        raise_total(&totals->static_uj, was.static_uj, least.static_uj, elapsed_ns) +
        raise_total(&totals->unattributed_uj, was.unattributed_uj, least.unattributed_uj,
                    elapsed_ns);
}

static void raise_all(const struct ledger_image *image, const struct pace *pace)
{
    struct row_walk before = {&pace->before, 0}, checkpoint = {&pace->checkpoint, 0};

    for (size_t a = 0; a < image->head->n_totals; a++) {
        image->totals[a].reading_valid = 0;
        raise_totals(&image->totals[a], totals_of(&pace->before, a),
                     totals_of(&pace->checkpoint, a), pace->elapsed_ns);
    }
    for (size_t i = 0; !is_former(image, i); i++) {
        struct image_row *row = ledger_image_row(image, i);

        raise_row(image, row, pace, seek(&before, row->id), seek(&checkpoint, row->id));
    }
}

int ledger_reserve_add(const struct ledger_image *now, const struct ledger_image *before,
                       const struct ledger_image *checkpoint, struct buffer *ret)
{
    int r = ledger_image_init(ret, now->head->n_totals, now->head->n_rows);
    struct pace pace = {*now, *now, 0};
    struct ledger_image image;

    if (r < 0)
        return r;
    if (before && now->head->time_ns > before->head->time_ns) {
        pace.before = *before;
        pace.elapsed_ns = now->head->time_ns - before->head->time_ns;
    }
    if (checkpoint)
        pace.checkpoint = *checkpoint;
    memcpy(ret->bytes, now->head, now->head->size);
    image = ledger_image_view(ret->bytes);
    image.head->flags |= LEDGER_IMAGE_RESERVE;
    raise_all(&image, &pace);
    ledger_image_seal(ret->bytes);
    return 0;
}

/* Comparing. */

/* Is a total covered now, and after one more interval of the same growth? */
static bool is_below(uint64_t ceiling, uint64_t now, uint64_t before)
{
    return now + (now > before ? now - before : 0) <= ceiling;
}

static bool covers_energy(struct image_energy ceiling, struct image_energy now,
                          struct image_energy before)
{
    return is_below(ceiling.dynamic_uj, now.dynamic_uj, before.dynamic_uj) &&
           is_below(ceiling.static_uj, now.static_uj, before.static_uj);
}

static bool covers_totals(struct image_totals ceiling, struct image_totals now,
                          struct image_totals before)
{
    return is_below(ceiling.host_uj, now.host_uj, before.host_uj) &&
           is_below(ceiling.static_uj, now.static_uj, before.static_uj) &&
           is_below(ceiling.unattributed_uj, now.unattributed_uj, before.unattributed_uj);
}

bool ledger_reserve_covers(const struct ledger_image *checkpoint, const struct ledger_image *now,
                           const struct ledger_image *before)
{
    struct row_walk ceilings = {checkpoint, 0}, befores = {before, 0};

    for (size_t a = 0; a < now->head->n_totals; a++) {
        struct image_totals was = before ? totals_of(before, a) : now->totals[a];

        if (!covers_totals(totals_of(checkpoint, a), now->totals[a], was))
            return false;
    }
    for (size_t i = 0; i < now->head->n_rows; i++) {
        struct image_row *row = ledger_image_row(now, i);
        struct image_row *ceiling = seek(&ceilings, row->id);
        struct image_row *was = seek(&befores, row->id);

        for (size_t a = 0; a < now->head->n_totals; a++) {
            struct image_energy energy = image_row_energies(row)[a];

            if (!covers_energy(energy_of(checkpoint, ceiling, a), energy,
                               before && !is_former(now, i) ? energy_of(before, was, a) : energy))
                return false;
        }
    }
    return true;
}
