/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "source/sample.h"
#include "util/clock.h"

static const struct zone_set zones = {
    .n = 1,
    .zones = {{.name = "package-0", .kind = ZONE_PACKAGE, .max_energy_uj = 65532610987}},
};

static struct sample take(struct sampler *sampler, bool valid, uint64_t energy_uj, uint64_t second)
{
    const struct reading reading = {valid, energy_uj, second * NSEC_PER_SEC};
    struct sample sample;

    sampler_take(sampler, &zones, &reading, second * NSEC_PER_SEC, &sample);
    return sample;
}

static void test_difference(void **state)
{
    struct sampler sampler = {0};
    struct sample sample = take(&sampler, true, 1000, 1);

    assert_false(sample.zones[0].valid); /* nothing to compare with yet */
    sample = take(&sampler, true, 51000, 2);
    assert_true(sample.zones[0].valid);
    assert_false(sample.zones[0].gap);
    assert_int_equal(sample.zones[0].energy_uj, 50000);
    assert_int_equal(sample.zones[0].duration_ns, NSEC_PER_SEC);
    assert_int_equal(sample.time_ns, 2 * NSEC_PER_SEC);
}

static void test_wrap(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 65532610987 - 70000000, 1);
    sample = take(&sampler, true, 30000000, 2);
    assert_true(sample.zones[0].valid);
    assert_int_equal(sample.zones[0].energy_uj, 100000000);
}

static void test_reset_is_no_wrap(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 20000000, 1);
    sample = take(&sampler, true, 1000000, 2);
    assert_false(sample.zones[0].valid); /* a wrap would have been 65 kJ in a second */
    sample = take(&sampler, true, 3000000, 3);
    assert_true(sample.zones[0].valid);
    assert_int_equal(sample.zones[0].energy_uj, 2000000);
}

static void test_gap(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 1000, 1);
    sample = take(&sampler, false, 0, 2);
    assert_false(sample.zones[0].valid);
    sample = take(&sampler, true, 301000, 4);
    assert_true(sample.zones[0].valid);
    assert_true(sample.zones[0].gap);
    assert_int_equal(sample.zones[0].energy_uj, 300000);
    assert_int_equal(sample.zones[0].duration_ns, 3 * NSEC_PER_SEC);
    assert_false(take(&sampler, true, 302000, 5).zones[0].gap);
}

static void has_slept(struct sampler *sampler, uint64_t ns)
{
    sampler->suspended_before_ns += ns;
    sampler->suspended_after_ns += ns;
}

/* Awake for a second, asleep for the rest. */
static struct sample sleep_and_take(struct sampler *sampler, uint64_t slept_s, uint64_t energy_uj,
                                    uint64_t second)
{
    has_slept(sampler, slept_s * NSEC_PER_SEC);
    return take(sampler, true, energy_uj, second);
}

/* Eight hours of 2 W, counted on: 57.6 kJ in what CLOCK_MONOTONIC takes for a second. */
static void test_suspended_to_idle(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 1000000, 1);
    sample = sleep_and_take(&sampler, 28800, 1000000 + 57600000000, 2);
    assert_true(sample.zones[0].valid);
    assert_true(sample.zones[0].gap);
    assert_int_equal(sample.zones[0].energy_uj, 57600000000);
    assert_int_equal(sample.zones[0].duration_ns, NSEC_PER_SEC);
    /* The next interval is as any other. */
    sample = take(&sampler, true, 57621000000, 3);
    assert_true(sample.zones[0].valid);
    assert_false(sample.zones[0].gap);
    assert_int_equal(sample.zones[0].energy_uj, 20000000);
}

/* While the zones were read: nobody knows on which side of the readings its energy is. */
static void test_suspended_in_a_reading(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 1000000, 1);
    sampler.suspended_after_ns = 3600 * NSEC_PER_SEC;
    sample = take(&sampler, true, 21000000, 2);
    assert_true(sample.zones[0].valid);
    assert_true(sample.zones[0].gap);
    sampler.suspended_before_ns = sampler.suspended_after_ns;
    sample = take(&sampler, true, 7200000000, 3);
    assert_true(sample.zones[0].valid);
    assert_true(sample.zones[0].gap);
    assert_false(take(&sampler, true, 7220000000, 4).zones[0].gap);
}

/* The packages were off: the counter begins at zero, and this is no wrap, however near it was. */
static void test_suspended_to_ram(void **state)
{
    static const uint64_t lasts[] = {20000000, 65532610987 / 2, 65532610987};

    for (size_t i = 0; i < ELEMENTS(lasts); i++) {
        struct sampler sampler = {0};
        struct sample sample;

        take(&sampler, true, lasts[i], 1);
        sample = sleep_and_take(&sampler, 3600, 5000000, 2);
        assert_false(sample.zones[0].valid);
        sample = take(&sampler, true, 25000000, 3);
        assert_true(sample.zones[0].valid);
        assert_false(sample.zones[0].gap);
        assert_int_equal(sample.zones[0].energy_uj, 20000000);
    }
}

/* A zone that could not be read on waking up has slept as well. */
static void test_unreadable_after_suspension(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    take(&sampler, true, 65532610987, 1);
    has_slept(&sampler, 3600 * NSEC_PER_SEC);
    take(&sampler, false, 0, 2);
    assert_false(take(&sampler, true, 5000000, 3).zones[0].valid);
    sample = take(&sampler, true, 6000000, 4);
    assert_true(sample.zones[0].valid);
    assert_false(sample.zones[0].gap);
}

/* The pair of clocks is never read at one moment. */
static void test_clock_error_is_no_suspension(void **state)
{
    struct sampler sampler = {0};
    struct sample sample;

    has_slept(&sampler, NSEC_PER_SEC);
    take(&sampler, true, 65532610987 - 70000000, 1);
    has_slept(&sampler, NSEC_PER_MSEC);
    sample = take(&sampler, true, 30000000, 2);
    assert_true(sample.zones[0].valid);
    assert_false(sample.zones[0].gap);
    has_slept(&sampler, -NSEC_PER_MSEC);
    sample = take(&sampler, true, 40000000, 3);
    assert_true(sample.zones[0].valid);
    assert_false(sample.zones[0].gap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_reset_is_no_wrap),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_suspended_to_idle),
        cmocka_unit_test(test_suspended_in_a_reading),
        cmocka_unit_test(test_suspended_to_ram),
        cmocka_unit_test(test_unreadable_after_suspension),
        cmocka_unit_test(test_clock_error_is_no_suspension),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
