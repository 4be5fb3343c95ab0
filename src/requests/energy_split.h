/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a unit of work costs: the VM's energy over the work of all its tasks.
 *
 *     counter (late by the tree's delay) --+
 *                                          +--(each tick)--> factor --> work done from now on
 *     work of all tasks -------------------+
 *
 * The factor must be there before the energy is known: a response's header
 * cannot wait. So what is handed out is an advance, at the rate of the last
 * stretch of time whose energy and work are both known; what the counter later
 * says differently is owed, and goes onto the factor of the next ticks. At every
 * moment
 *
 *     counter = handed out + nobody's + owed
 *
 * in whole microjoules, and what is owed stays within the energy of about one
 * delay. A counter that stands still (a tree that advances in steps, or has
 * gone) ends no stretch: the factor holds, and the energy that comes at last is
 * divided over the work of all that time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A factor is microjoules per unit of work, in units of 2^-40. */
#define ENERGY_FACTOR_BITS 40
/** Ticks that are remembered: at 10 ms each, and the longest interval of a tree, 60 s. */
#define SPLIT_POINTS 6144

/** The totals at one moment. */
struct split_point {
    uint64_t time_ns;     /* CLOCK_MONOTONIC */
    uint64_t work;        /* wraps */
    uint64_t handed_uj;   /* work times factor */
    int64_t corrected_uj; /* of that: more or less than the rate alone gives */
};

/** Zero-initialised, but for idle_uw. */
struct energy_split {
    uint64_t idle_uw; /* power without load: nobody's */

    uint64_t factor;    /* of the work from now on; 0: not known yet */
    uint64_t nobody_uj; /* the idle power's, or used while there was no work */
    int64_t owed_uj;    /* to those that work next; negative: handed out too much */

    uint64_t rate;           /* of the last stretch, as the factor */
    uint64_t fraction;       /* of a microjoule that has been handed out, 2^-40 */
    bool anchored;           /* the two below are known */
    struct split_point from; /* where the stretch begins whose energy is not known yet */
    uint64_t from_energy_uj; /* the counter's value of that moment */

    size_t n_points; /* ever; the last SPLIT_POINTS are kept */
    struct split_point points[SPLIT_POINTS];
};

/**
 * Takes in what was seen at one tick.
 * @param time_ns    CLOCK_MONOTONIC, growing
 * @param work       of all tasks, total; its unit is the caller's
 * @param energy_uj  total of the counter, never falling
 * @param delay_ns   how long before the tick the energy is that of
 */
void energy_split_tick(struct energy_split *split, uint64_t time_ns, uint64_t work,
                       uint64_t energy_uj, uint64_t delay_ns);

/** The counter was reset: what it said before has nothing to do with what it will say. */
void energy_split_forget_counter(struct energy_split *split);

/** What all tasks have been handed out up to the last tick, microjoules. */
uint64_t energy_split_handed_uj(const struct energy_split *split);

/** Energy of an amount of work, microjoules, rounded down. */
static inline uint64_t energy_of_work(uint64_t work, uint64_t factor)
{
    return (uint64_t)((__uint128_t)work * factor >> ENERGY_FACTOR_BITS);
}
