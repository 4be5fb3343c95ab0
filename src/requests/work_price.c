/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/work_price.h"

#include "util/clock.h"
#include "util/search.h"

/* Below the idle power, a stretch goes on for so long before its energy counts as idle. */
#define IDLE_STRETCH_MAX_NS (60 * NSEC_PER_SEC)

static const struct price_point *kept(const struct work_price *price, size_t i)
{
    return &price->points[i % PRICE_POINTS];
}

static size_t first_kept(const struct work_price *price)
{
    return price->n_points > PRICE_POINTS ? price->n_points - PRICE_POINTS : 0;
}

static struct price_point interpolate(const struct price_point *a, const struct price_point *b,
                                      uint64_t time_ns)
{
    uint64_t part = time_ns - a->time_ns, whole = b->time_ns - a->time_ns;
    __int128 corrected = (__int128)(b->corrected_uj - a->corrected_uj) * (__int128)part;

    return (struct price_point){
        .time_ns = time_ns,
        .work = value_between(a->work, b->work, part, whole),
        .charged_uj = value_between(a->charged_uj, b->charged_uj, part, whole),
        .corrected_uj = a->corrected_uj + (int64_t)(corrected / (__int128)whole),
    };
}

struct search {
    const struct work_price *price;
    uint64_t time_ns;
};

static bool is_not_after(size_t i, const void *userdata)
{
    const struct search *search = userdata;

    return kept(search->price, first_kept(search->price) + i)->time_ns <= search->time_ns;
}

/* @return false: the moment is before all points that are kept */
static bool find_point(const struct work_price *price, uint64_t time_ns, struct price_point *ret)
{
    struct search search = {price, time_ns};
    size_t first = first_kept(price);
    size_t next = first + lower_bound(price->n_points - first, is_not_after, &search);

    if (next == first)
        return false;
    if (next == price->n_points)
        *ret = *kept(price, next - 1);
    else
        *ret = interpolate(kept(price, next - 1), kept(price, next), time_ns);
    return true;
}

/* Charges the work since the last tick. */
static void add_point(struct work_price *price, uint64_t time_ns, uint64_t work)
{
    struct price_point point = {.time_ns = time_ns, .work = work};

    if (price->n_points > 0) {
        const struct price_point *last = kept(price, price->n_points - 1);
        uint64_t done = work - last->work, charged_uj;
        __uint128_t charged = (__uint128_t)done * price->factor + price->fraction;

        price->fraction = (uint64_t)charged & ((UINT64_C(1) << WORK_FACTOR_BITS) - 1);
        charged_uj = (uint64_t)(charged >> WORK_FACTOR_BITS);
        point.charged_uj = last->charged_uj + charged_uj;
        point.corrected_uj =
            last->corrected_uj + (int64_t)(charged_uj - work_energy_uj(done, price->rate));
    }
    price->points[price->n_points++ % PRICE_POINTS] = point;
}

static uint64_t rate_of(uint64_t energy_uj, uint64_t work)
{
    __uint128_t rate = ((__uint128_t)energy_uj << WORK_FACTOR_BITS) / work;

    return rate > UINT64_MAX ? UINT64_MAX : (uint64_t)rate;
}

/* Ends a stretch at a point, and divides its energy, if that can be decided yet. */
static void settle(struct work_price *price, const struct price_point *to, uint64_t energy_uj)
{
    uint64_t duration_ns = to->time_ns - price->from.time_ns;
    uint64_t idle_uj = idle_energy_uj(price->idle_uw, duration_ns);
    uint64_t used_uj = energy_uj - price->from_energy_uj;
    uint64_t active_uj = used_uj > idle_uj ? used_uj - idle_uj : 0;
    uint64_t charged_uj = to->charged_uj - price->from.charged_uj;
    uint64_t work = to->work - price->from.work;

    if (active_uj == 0) {
        /* A short interval below idle power may be compensated by the next one; a stalled counter
         * always is. */
        if (duration_ns < IDLE_STRETCH_MAX_NS || used_uj < charged_uj)
            return;
        price->unattributed_uj += used_uj - charged_uj;
    } else {
        bool known = price->rate > 0;

        price->owed_uj += (int64_t)(active_uj - charged_uj);
        price->unattributed_uj += used_uj - active_uj;
        if (work > 0)
            price->rate = rate_of(active_uj, work);
        /* There is no work to owe it, or work could not be charged yet. */
        if ((work == 0 || !known) && price->owed_uj > 0) {
            price->unattributed_uj += (uint64_t)price->owed_uj;
            price->owed_uj = 0;
        }
    }
    price->from = *to;
    price->from_energy_uj = energy_uj;
}

/* @return the factor: the rate, corrected by half of it at most, so that as much work as was done
 * in the last tick pays what is owed */
static uint64_t correct(const struct work_price *price)
{
    const struct price_point *now = kept(price, price->n_points - 1);
    uint64_t done = now->work - kept(price, price->n_points - 2)->work, step;
    /* Corrections since the stretch's beginning show in the next stretch only. */
    int64_t owed_uj = price->owed_uj - (now->corrected_uj - price->from.corrected_uj);

    if (done == 0)
        return price->rate;
    step = rate_of(owed_uj < 0 ? -(uint64_t)owed_uj : (uint64_t)owed_uj, done);
    if (step > price->rate / 2)
        step = price->rate / 2;
    if (owed_uj < 0)
        return price->rate - step;
    return price->rate > UINT64_MAX - step ? UINT64_MAX : price->rate + step;
}

void work_price_tick(struct work_price *price, uint64_t time_ns, uint64_t work, uint64_t energy_uj,
                     uint64_t delay_ns)
{
    struct price_point to;

    /* The same moment again adds nothing. */
    if (price->n_points > 0 && time_ns <= kept(price, price->n_points - 1)->time_ns)
        return;
    add_point(price, time_ns, work);
    if (delay_ns > time_ns || !find_point(price, time_ns - delay_ns, &to))
        return;
    if (!price->anchored) {
        price->from = to;
        price->from_energy_uj = energy_uj;
        price->anchored = true;
        return;
    }
    /* Where the delay grew, this moment is settled already. */
    if (to.time_ns > price->from.time_ns)
        settle(price, &to, energy_uj);
    price->factor = correct(price);
}

void work_price_forget_counter(struct work_price *price)
{
    price->anchored = false;
    price->owed_uj = 0;
}

uint64_t work_price_charged_uj(const struct work_price *price)
{
    return price->n_points ? kept(price, price->n_points - 1)->charged_uj : 0;
}
