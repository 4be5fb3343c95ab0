/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_split.h"

#include "util/clock.h"

uint64_t baseline_split(struct baseline *baseline, uint64_t energy_uj, uint64_t duration_ns)
{
    __uint128_t static_uwns = (__uint128_t)baseline->power_uw * duration_ns + baseline->remainder;
    __int128_t rest =
        (__int128_t)energy_uj - (__int128_t)(static_uwns / NSEC_PER_SEC) + baseline->carry_uj;
    __int128_t lowest = -(__int128_t)baseline->power_uw * BASELINE_CARRY_S;

    baseline->remainder = (uint64_t)(static_uwns % NSEC_PER_SEC);
    if (rest >= 0) {
        baseline->carry_uj = 0;
        return (uint64_t)rest;
    }
    baseline->carry_uj = (int64_t)(rest < lowest ? lowest : rest);
    return 0;
}
