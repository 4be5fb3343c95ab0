/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/share.h"

/* xorshift64*: the same numbers in every run. */
static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t random_u64(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}

/* Entities' exact dues, in units of 2^-64 uJ, held apart from the code under test. */
struct due {
    uint64_t whole;
    uint64_t fraction;
};

struct entities {
    size_t n;
    uint64_t *weights;
    uint64_t *fractions;
    uint64_t *amounts;
    uint64_t *totals;
    struct due *dues;
};

static struct entities entities_new(size_t n)
{
    return (struct entities){
        .n = n,
        .weights = calloc(n, sizeof(uint64_t)),
        .fractions = calloc(n, sizeof(uint64_t)),
        .amounts = calloc(n, sizeof(uint64_t)),
        .totals = calloc(n, sizeof(uint64_t)),
        .dues = calloc(n, sizeof(struct due)),
    };
}

static void entities_free(struct entities *e)
{
    free(e->weights);
    free(e->fractions);
    free(e->amounts);
    free(e->totals);
    free(e->dues);
}

/* due += energy * weight / sum by long division: 64 bits of fraction, one at a time. */
static void add_due(struct due *due, uint64_t energy, uint64_t weight, uint64_t sum)
{
    __uint128_t product = (__uint128_t)energy * weight;
    __uint128_t remainder = product % sum;
    uint64_t fraction = 0;

    for (int bit = 0; bit < 64; bit++) {
        remainder <<= 1;
        fraction = fraction << 1 | (remainder >= sum);
        if (remainder >= sum)
            remainder -= sum;
    }
    due->fraction += fraction;
    due->whole += (uint64_t)(product / sum) + (due->fraction < fraction);
}

enum load { LOAD_RANDOM, LOAD_SPARSE, LOAD_EQUAL, LOAD_ONE_BUSY };

static uint64_t draw_weight(enum load load, size_t i, uint64_t tick, size_t n)
{
    switch (load) {
    case LOAD_RANDOM:
        return random_below(UINT64_C(1) << 40);
    case LOAD_SPARSE:
        return random_below(8) ? 0 : random_below(UINT64_C(1) << 34);
    case LOAD_EQUAL:
        return 1;
    case LOAD_ONE_BUSY:
        return i == tick % n ? UINT64_C(1) << 33 : 1;
    }
    return 0;
}

static uint64_t draw_energy(uint64_t tick)
{
    switch (tick % 4) {
    case 0:
        return random_below(100); /* less than there are entities */
    case 1:
        return random_below(UINT64_C(1) << 30);
    case 2:
        return tick % 100 == 2 ? random_below(UINT64_C(1) << 48) : 0;
    default:
        return 40000000 + random_below(1000);
    }
}

static void check_properties(size_t n, uint64_t ticks, enum load load, bool check_dues)
{
    struct entities e = entities_new(n);
    __uint128_t energies = 0;
    uint64_t remainder = 0;

    for (uint64_t tick = 0; tick < ticks; tick++) {
        uint64_t energy = draw_energy(tick), sum = 0;
        __uint128_t given = 0;

        for (size_t i = 0; i < n; i++) {
            e.weights[i] = draw_weight(load, i, tick, n);
            sum += e.weights[i];
        }
        if (sum == 0)
            continue;
        share_divide(energy, e.weights, n, e.fractions, &remainder, e.amounts);
        energies += energy;
        for (size_t i = 0; i < n; i++) {
            e.totals[i] += e.amounts[i];
            given += e.totals[i];
            if (!check_dues)
                continue;
            add_due(&e.dues[i], energy, e.weights[i], sum);
            /* Not above the due, and less than one microjoule below it. */
            if (e.totals[i] != e.dues[i].whole)
                fail_msg("entity %zu has %lu of %lu uJ", i, e.totals[i], e.dues[i].whole);
        }
        if (given + remainder != energies || remainder > n)
            fail_msg("tick %lu: conservation broken, carried %lu", tick, remainder);
    }
    entities_free(&e);
}

static void test_conservation_and_error(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 7, 100, 5000};
    static const enum load loads[] = {LOAD_RANDOM, LOAD_SPARSE, LOAD_EQUAL, LOAD_ONE_BUSY};

    for (size_t i = 0; i < ELEMENTS(sizes); i++)
        for (size_t j = 0; j < ELEMENTS(loads); j++)
            check_properties(sizes[i], 200000 / sizes[i] + 20, loads[j], true);
}

static void test_a_million_ticks(void **state)
{
    check_properties(3, 1000000, LOAD_RANDOM, true);
    check_properties(5, 1000000, LOAD_SPARSE, true);
    check_properties(10, 1000000, LOAD_EQUAL, false);
}

static void test_known_division(void **state)
{
    const uint64_t weights[3] = {1, 1, 1};
    uint64_t fractions[3] = {0}, amounts[3], remainder = 0;

    share_divide(10, weights, 3, fractions, &remainder, amounts);
    assert_int_equal(amounts[0], 3);
    assert_int_equal(amounts[1], 3);
    assert_int_equal(amounts[2], 3);
    assert_int_equal(remainder, 1);
    share_divide(1, weights, 3, fractions, &remainder, amounts);
    assert_int_equal(amounts[0], 0);
    assert_int_equal(remainder, 2);
    /* 11 / 3 + 4 / 3 = 5, short of the cut at 2^-64 uJ for each: due with the next energy. */
    share_divide(5, weights, 3, fractions, &remainder, amounts);
    assert_int_equal(amounts[0] + amounts[1] + amounts[2] + remainder, 7);
}

static void test_extremes(void **state)
{
    const uint64_t weights[3] = {UINT64_MAX / 2, 0, UINT64_MAX / 2};
    uint64_t fractions[3] = {0}, amounts[3], remainder = 0;

    share_divide(INT64_MAX, weights, 3, fractions, &remainder, amounts);
    assert_int_equal(amounts[0] + amounts[2] + remainder, INT64_MAX);
    assert_int_equal(amounts[1], 0);
    assert_int_equal(amounts[0], amounts[2]);
}

static void test_merged_fractions(void **state)
{
    uint64_t fraction = UINT64_C(1) << 63;

    assert_int_equal(share_merge_fraction(&fraction, (UINT64_C(1) << 63) - 1), 0);
    assert_int_equal(fraction, UINT64_MAX);
    assert_int_equal(share_merge_fraction(&fraction, 1), 1);
    assert_int_equal(fraction, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_division),   cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_merged_fractions), cmocka_unit_test(test_conservation_and_error),
        cmocka_unit_test(test_a_million_ticks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
