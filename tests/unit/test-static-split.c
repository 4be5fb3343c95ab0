/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "baseline/static_split.h"
#include "util/clock.h"

static void test_without_baseline(void **state)
{
    struct static_split split = {0};

    assert_int_equal(static_split_energy(&split, 123, NSEC_PER_SEC), 123);
    assert_int_equal(static_split_energy(&split, 0, NSEC_PER_SEC), 0);
}

static void test_known_split(void **state)
{
    struct static_split split = {.power_uw = 20000000};

    assert_int_equal(static_split_energy(&split, 50000000, NSEC_PER_SEC), 30000000);
    assert_int_equal(static_split_energy(&split, 50000000, 2 * NSEC_PER_SEC), 10000000);
}

/* Energy that noise puts below the baseline is made up for by what lies above it. */
static void test_noise_is_not_biased(void **state)
{
    struct static_split split = {.power_uw = 20000000};
    uint64_t dynamic = 0;

    for (int i = 0; i < 1000; i++) {
        dynamic += static_split_energy(&split, 15000000, NSEC_PER_SEC);
        dynamic += static_split_energy(&split, 27000000, NSEC_PER_SEC);
    }
    assert_int_equal(dynamic, 1000 * 2000000);
}

/* A third of a microjoule an interval adds up. */
static void test_remainder_is_kept(void **state)
{
    struct static_split split = {.power_uw = 1};
    uint64_t dynamic = 0;

    for (int i = 0; i < 3000; i++)
        dynamic += static_split_energy(&split, 10, NSEC_PER_SEC / 3 + (i % 3 == 0));
    assert_int_equal(dynamic, 30000 - 1000);
}

static void test_carry_is_bounded(void **state)
{
    struct static_split split = {.power_uw = 20000000};

    for (int i = 0; i < 3600; i++)
        assert_int_equal(static_split_energy(&split, 0, NSEC_PER_SEC), 0);
    assert_int_equal(split.deficit_uj, -20000000 * (int64_t)STATIC_DEFICIT_MAX_S);
    assert_int_equal(static_split_energy(&split, 300000000, NSEC_PER_SEC), 80000000);
}

static void test_huge_values(void **state)
{
    struct static_split split = {.power_uw = UINT64_C(10000000000)};

    assert_int_equal(static_split_energy(&split, 5, UINT64_C(1) << 62), 0);
    assert_int_equal(static_split_energy(&split, UINT64_MAX / 4, 1), UINT64_MAX / 4 - 100000000010);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_baseline),    cmocka_unit_test(test_known_split),
        cmocka_unit_test(test_noise_is_not_biased), cmocka_unit_test(test_remainder_is_kept),
        cmocka_unit_test(test_carry_is_bounded),    cmocka_unit_test(test_huge_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
