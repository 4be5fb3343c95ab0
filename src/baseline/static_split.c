/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_split.h"

#include "util/clock.h"

uint64_t static_split_energy(struct static_split *split, uint64_t energy_uj, uint64_t duration_ns)
{
    __uint128_t static_uwns = (__uint128_t)split->power_uw * duration_ns + split->remainder;
    __int128_t rest =
        (__int128_t)energy_uj - (__int128_t)(static_uwns / NSEC_PER_SEC) + split->deficit_uj;
    __int128_t lowest = -(__int128_t)split->power_uw * STATIC_DEFICIT_MAX_S;

    split->remainder = (uint64_t)(static_uwns % NSEC_PER_SEC);
    if (rest >= 0) {
        split->deficit_uj = 0;
        return (uint64_t)rest;
    }
    split->deficit_uj = (int64_t)(rest < lowest ? lowest : rest);
    return 0;
}
