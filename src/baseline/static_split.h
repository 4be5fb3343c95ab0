/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/*
 * Splits a zone's energy into the part that it draws with no load, and the rest.
 *
 * With static power P, the static energy of an interval is S = P * time, and
 *
 *     D = max(0, E - S + deficit),   deficit' = min(0, E - S + deficit)
 *
 * D is the dynamic energy, E - D the static. The deficit keeps the amount by
 * which noise puts an interval below S for the intervals that lie above it:
 * clipping each interval by itself would make a low load look larger than it is.
 */
struct static_split {
    uint64_t power_uw;  /* 0: everything is dynamic */
    uint64_t remainder; /* of S: uW * ns below one uJ */
    int64_t deficit_uj; /* <= 0, at least -STATIC_DEFICIT_MAX_S * power */
};

/* A static power that is set too high must not swallow later load for ever. */
#define STATIC_DEFICIT_MAX_S 10

/**
 * Splits one interval's energy.
 * @return the dynamic energy, microjoules, 0 to energy_uj
 */
uint64_t static_split_energy(struct static_split *split, uint64_t energy_uj, uint64_t duration_ns);
