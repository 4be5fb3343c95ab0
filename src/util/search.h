/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/**
 * Binary search in a sorted sequence of any kind. O(log n).
 * @param n          length of the sequence
 * @param is_before  whether the element at an index lies before the sought one
 * @return the index of the first element that does not lie before it; n when all do
 */
static inline size_t lower_bound(size_t n, bool (*is_before)(size_t index, const void *userdata),
                                 const void *userdata)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (is_before(middle, userdata))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
