/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/energy_split.h"

#include "util/clock.h"

/* So long may the idle power hold back energy before it is settled that it was all of it. */
#define IDLE_STRETCH_MAX_NS (60 * NSEC_PER_SEC)

/* uW x ns, per uJ */
#define UW_NS_PER_UJ UINT64_C(1000000000)

static const struct split_point *kept(const struct energy_split *split, size_t i)
{
    return &split->points[i % SPLIT_POINTS];
}

static size_t first_kept(const struct energy_split *split)
{
    return split->n_points > SPLIT_POINTS ? split->n_points - SPLIT_POINTS : 0;
}

static uint64_t between(uint64_t a, uint64_t b, uint64_t part, uint64_t whole)
{
    return a + (uint64_t)((__uint128_t)(b - a) * part / whole);
}

static struct split_point interpolate(const struct split_point *a, const struct split_point *b,
                                      uint64_t time_ns)
{
    uint64_t part = time_ns - a->time_ns, whole = b->time_ns - a->time_ns;
    __int128 corrected = (__int128)(b->corrected_uj - a->corrected_uj) * (__int128)part;

    return (struct split_point){
        .time_ns = time_ns,
        .work = between(a->work, b->work, part, whole),
        .handed_uj = between(a->handed_uj, b->handed_uj, part, whole),
        .corrected_uj = a->corrected_uj + (int64_t)(corrected / (__int128)whole),
    };
}

/* @return false: the moment is before all that is remembered */
static bool find_point(const struct energy_split *split, uint64_t time_ns, struct split_point *ret)
{
    size_t low = first_kept(split), high = split->n_points - 1;

    if (time_ns < kept(split, low)->time_ns)
        return false;
    if (time_ns >= kept(split, high)->time_ns) {
        *ret = *kept(split, high);
        return true;
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (kept(split, middle)->time_ns <= time_ns)
            low = middle;
        else
            high = middle;
    }
    *ret = interpolate(kept(split, low), kept(split, high), time_ns);
    return true;
}

/* What has been handed out since the last tick. */
static void add_point(struct energy_split *split, uint64_t time_ns, uint64_t work)
{
    struct split_point point = {.time_ns = time_ns, .work = work};

    if (split->n_points > 0) {
        const struct split_point *last = kept(split, split->n_points - 1);
        uint64_t done = work - last->work, handed_uj;
        __uint128_t handed = (__uint128_t)done * split->factor + split->fraction;

        split->fraction = (uint64_t)handed & ((UINT64_C(1) << ENERGY_FACTOR_BITS) - 1);
        handed_uj = (uint64_t)(handed >> ENERGY_FACTOR_BITS);
        point.handed_uj = last->handed_uj + handed_uj;
        point.corrected_uj =
            last->corrected_uj + (int64_t)(handed_uj - energy_of_work(done, split->rate));
    }
    split->points[split->n_points++ % SPLIT_POINTS] = point;
}

static uint64_t rate_of(uint64_t energy_uj, uint64_t work)
{
    __uint128_t rate = ((__uint128_t)energy_uj << ENERGY_FACTOR_BITS) / work;

    return rate > UINT64_MAX ? UINT64_MAX : (uint64_t)rate;
}

/* Divides the energy of the stretch that ends at a point, if it can be told yet. */
static void settle(struct energy_split *split, const struct split_point *to, uint64_t energy_uj)
{
    uint64_t duration_ns = to->time_ns - split->from.time_ns;
    uint64_t idle_uj = (uint64_t)((__uint128_t)split->idle_uw * duration_ns / UW_NS_PER_UJ);
    uint64_t used_uj = energy_uj - split->from_energy_uj;
    uint64_t active_uj = used_uj > idle_uj ? used_uj - idle_uj : 0;
    uint64_t handed_uj = to->handed_uj - split->from.handed_uj;
    uint64_t work = to->work - split->from.work;

    if (active_uj == 0) {
        /* Less than the idle power may be made good by what follows; a counter that stands is. */
        if (duration_ns < IDLE_STRETCH_MAX_NS || used_uj < handed_uj)
            return;
        split->nobody_uj += used_uj - handed_uj;
    } else {
        bool known = split->rate > 0;

        split->owed_uj += (int64_t)(active_uj - handed_uj);
        split->nobody_uj += used_uj - active_uj;
        if (work > 0)
            split->rate = rate_of(active_uj, work);
        /* Nobody is there to be owed, or nobody could be handed anything yet. */
        if ((work == 0 || !known) && split->owed_uj > 0) {
            split->nobody_uj += (uint64_t)split->owed_uj;
            split->owed_uj = 0;
        }
    }
    split->from = *to;
    split->from_energy_uj = energy_uj;
}

/* The rate, and what is owed over as much work as was done in the last tick; by half at most. */
static uint64_t correct(const struct energy_split *split)
{
    const struct split_point *now = kept(split, split->n_points - 1);
    uint64_t done = now->work - kept(split, split->n_points - 2)->work, step;
    /* What was put right since the stretch's beginning shows in the next stretch only. */
    int64_t owed_uj = split->owed_uj - (now->corrected_uj - split->from.corrected_uj);

    if (done == 0)
        return split->rate;
    step = rate_of(owed_uj < 0 ? -(uint64_t)owed_uj : (uint64_t)owed_uj, done);
    if (step > split->rate / 2)
        step = split->rate / 2;
    if (owed_uj < 0)
        return split->rate - step;
    return split->rate > UINT64_MAX - step ? UINT64_MAX : split->rate + step;
}

void energy_split_tick(struct energy_split *split, uint64_t time_ns, uint64_t work,
                       uint64_t energy_uj, uint64_t delay_ns)
{
    struct split_point to;

    /* The same moment again tells nothing. */
    if (split->n_points > 0 && time_ns <= kept(split, split->n_points - 1)->time_ns)
        return;
    add_point(split, time_ns, work);
    if (delay_ns > time_ns || !find_point(split, time_ns - delay_ns, &to))
        return;
    if (!split->anchored) {
        split->from = to;
        split->from_energy_uj = energy_uj;
        split->anchored = true;
        return;
    }
    /* A delay that grew: this moment is told already. */
    if (to.time_ns > split->from.time_ns)
        settle(split, &to, energy_uj);
    split->factor = correct(split);
}

void energy_split_forget_counter(struct energy_split *split)
{
    split->anchored = false;
    split->owed_uj = 0;
}

uint64_t energy_split_handed_uj(const struct energy_split *split)
{
    return split->n_points ? kept(split, split->n_points - 1)->handed_uj : 0;
}
