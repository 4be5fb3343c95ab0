/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The division of energy, in whole microjoules, with nothing lost.
 *
 * An entity's exact due after any number of intervals, sum(E * w / W), is
 * hardly ever whole. Each entity is given the whole part of its due and keeps the
 * fraction, in units of 2^-64 uJ, for later. The fractions together are the
 * remainder: energy that is measured but not yet given to an entity, always less
 * than one microjoule per entity. So, for ever,
 *
 *     sum of all amounts + remainder = sum of all energies        (exactly)
 *     due - 1 uJ < the energy given to an entity <= due           (*)
 *
 * and an amount is never negative. To give the remainder to any entity at once
 * would break (*), or require that it is taken back later: no division that does
 * not know the future can avoid both.
 *
 * (*) but for the cut at 2^-64 uJ an interval: after 10^9 intervals, 10^-10 uJ.
 */

/**
 * Divides the energy of one interval.
 * @param energy_uj  below 2^63
 * @param weights    n weights; their sum is above 0 and below 2^64
 * @param fractions  n entities' fractions, 2^-64 uJ, kept from call to call
 * @param remainder_uj  energy not given to an entity so far; updated
 * @param ret        n amounts, microjoules
 */
void share_divide(uint64_t energy_uj, const uint64_t *weights, size_t n, uint64_t *fractions,
                  uint64_t *remainder_uj, uint64_t *ret);

/**
 * Adds the fraction of an entity that goes away to another's.
 * @return 1 if that completes a microjoule, which the other is now due; else 0
 */
unsigned share_merge_fraction(uint64_t *fraction, uint64_t other);
