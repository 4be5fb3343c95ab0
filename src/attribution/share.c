/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/share.h"

#include <assert.h>

unsigned share_merge_fraction(uint64_t *fraction, uint64_t other)
{
    return __builtin_add_overflow(*fraction, other, fraction);
}

void share_divide(uint64_t energy_uj, const uint64_t *weights, size_t n, uint64_t *fractions,
                  uint64_t *remainder_uj, uint64_t *ret)
{
    uint64_t sum = 0;
    uint64_t left = *remainder_uj + energy_uj;

    for (size_t i = 0; i < n; i++)
        sum += weights[i];
    assert(sum > 0);
    for (size_t i = 0; i < n; i++) {
        __uint128_t product = (__uint128_t)energy_uj * weights[i];
        uint64_t remainder = (uint64_t)(product % sum);

        ret[i] = (uint64_t)(product / sum);
        ret[i] +=
            share_merge_fraction(&fractions[i], (uint64_t)(((__uint128_t)remainder << 64) / sum));
        left -= ret[i];
    }
    *remainder_uj = left;
}
