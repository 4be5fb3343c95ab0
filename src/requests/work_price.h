/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a unit of work costs: the VM's energy over the work of all its tasks. A feedback
 * controller: its output, the factor, makes what work is charged follow the counter.
 *
 *     counter (late by the tree's delay) --+
 *                                          +--(each tick)--> factor --> work done from now on
 *     work of all tasks -------------------+
 *
 * The factor is needed before the energy is known: a response's header cannot wait.
 * So work is charged in advance, at the rate of the last stretch of time whose energy
 * and work are both known. The difference from what the counter shows later is owed,
 * and corrects the factor of the next ticks. At every moment
 *
 *     counter = charged + unattributed + owed
 *
 * in whole microjoules, and what is owed stays within the energy of about one
 * delay. A counter that stands still (a tree that advances in steps, or has
 * gone) ends no stretch: the factor holds, and the energy that comes at last is
 * divided over the work of all that time.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A factor is microjoules per unit of work, in units of 2^-40. */
#define WORK_FACTOR_BITS 40
/** Ticks that are kept: those of the longest interval of a tree, 60 s, at 10 ms each. */
#define PRICE_POINTS 6144

/** The totals at one moment. */
struct price_point {
    uint64_t time_ns;     /* CLOCK_MONOTONIC */
    uint64_t work;        /* wraps */
    uint64_t charged_uj;  /* work times factor */
    int64_t corrected_uj; /* of that: what the rate alone would not have charged; may be negative */
};

/** Zero-initialised, but for idle_uw. */
struct work_price {
    uint64_t idle_uw; /* power without load: unattributed */

    uint64_t factor;          /* of work from now on; 0: not known yet */
    uint64_t unattributed_uj; /* of the idle power, or used while there was no work */
    int64_t owed_uj;          /* by the work that comes next; negative: too much was charged */

    uint64_t rate;           /* of the last stretch, as the factor */
    uint64_t fraction;       /* of a microjoule that was not charged yet, 2^-40 */
    bool anchored;           /* the two below are known */
    struct price_point from; /* the beginning of the stretch whose energy is not known yet */
    uint64_t from_energy_uj; /* the counter's value of that moment */

    size_t n_points; /* ever; the last PRICE_POINTS are kept */
    struct price_point points[PRICE_POINTS];
};

/**
 * Adds what one tick has read, and computes the next factor.
 * @param time_ns    CLOCK_MONOTONIC, growing
 * @param work       of all tasks, total, in a unit of the caller's choice; wraps
 * @param energy_uj  total of the counter, never falling
 * @param delay_ns   the total is as of this long before the tick
 */
void work_price_tick(struct work_price *price, uint64_t time_ns, uint64_t work, uint64_t energy_uj,
                     uint64_t delay_ns);

/** To be called when the counter was reset: its next value is unrelated to its last. */
void work_price_forget_counter(struct work_price *price);

/** What all tasks have been charged up to the last tick, microjoules. */
uint64_t work_price_charged_uj(const struct work_price *price);

/** What the idle power draws in a time, microjoules, rounded down. */
static inline uint64_t idle_energy_uj(uint64_t idle_uw, uint64_t duration_ns)
{
    return (uint64_t)((__uint128_t)idle_uw * duration_ns / UINT64_C(1000000000));
}

/** A growing value between two moments, after a part of the whole time between them. */
static inline uint64_t value_between(uint64_t from, uint64_t to, uint64_t part, uint64_t whole)
{
    assert(part <= whole && whole > 0);
    return from + (uint64_t)((__uint128_t)(to - from) * part / whole);
}

/** Energy of an amount of work, microjoules, rounded down. */
static inline uint64_t work_energy_uj(uint64_t work, uint64_t factor)
{
    return (uint64_t)((__uint128_t)work * factor >> WORK_FACTOR_BITS);
}
