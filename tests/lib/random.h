/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <math.h>
#include <stdint.h>

/** A reproducible stream of random numbers. The seed is its state. */
struct random {
    uint64_t state;
};

/** SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
 *  OOPSLA 2014. */
static inline uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** Evenly distributed from low to below high. */
static inline double random_uniform(struct random *random, double low, double high)
{
    return low + (high - low) * (double)(random_next(random) >> 11) * 0x1p-53;
}

/** Close to normal, with mean 0 and variance 1. */
static inline double random_normal(struct random *random)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += random_uniform(random, 0, 1);
    return sum;
}

/** Exponentially distributed: the time to the next of independent events. */
static inline double random_exponential(struct random *random, double mean)
{
    return -mean * log(1.0 - random_uniform(random, 0, 1));
}
