/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "host/cpu_busy.h"
#include "source/estimate.h"
#include "util/clock.h"

static const struct estimate_curve straight = {
    .idle_uw = 40000000, .max_uw = 120000000, .exponent = 1};

static void test_curve(void **state)
{
    struct estimate_curve concave = straight;

    concave.exponent = 0.5;
    assert_true(estimate_power_uw(&straight, 0) == 40e6);
    assert_true(estimate_power_uw(&straight, 0.25) == 60e6);
    assert_true(estimate_power_uw(&straight, 1) == 120e6);
    assert_true(estimate_power_uw(&straight, -0.1) == 40e6);
    assert_true(estimate_power_uw(&straight, 1.1) == 120e6);
    assert_true(estimate_power_uw(&concave, 0.25) == 80e6);
}

/* Idle clock ticks of two CPUs since boot; 100 make a second. */
static void write_idle(const char *root, unsigned cpu0, unsigned cpu1)
{
    char text[256];

    snprintf(text, sizeof(text),
             "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 5 0 5 %u 0 0 0 0 0 0\ncpu1 5 0 5 %u 0 0 0 0 0 0\n",
             cpu0, cpu1);
    fixture_write(root, text, "stat");
}

static void test_busy_is_what_is_not_idle(void **state)
{
    const char *root = *state;
    struct cpu_busy *busy = NULL;
    uint64_t before, start, held_up;

    write_idle(root, 1000, 1000);
    /* It counts from a moment between these two on. */
    before = now_ns();
    assert_int_equal(cpu_busy_new(&busy, root), 0);
    start = now_ns();
    held_up = start - before;
    write_idle(root, 1030, 1000);
    assert_int_equal(cpu_busy_update(busy, start + NSEC_PER_SEC), 0);
    assert_int_equal(cpu_busy_count(busy), 2);
    assert_in_range(cpu_busy_ns(busy, 0), 700 * NSEC_PER_MSEC, 700 * NSEC_PER_MSEC + held_up);
    assert_in_range(cpu_busy_ns(busy, 1), 1000 * NSEC_PER_MSEC, 1000 * NSEC_PER_MSEC + held_up);
    /* More idle than there was time, by what printing it in ticks cuts off: not less than before.
     */
    write_idle(root, 1200, 1000);
    assert_int_equal(cpu_busy_update(busy, start + NSEC_PER_SEC + 1), 0);
    assert_in_range(cpu_busy_ns(busy, 0), 700 * NSEC_PER_MSEC, 700 * NSEC_PER_MSEC + held_up);
    cpu_busy_free(busy);
}

static void test_cpu_goes_offline_and_returns(void **state)
{
    const char *root = *state;
    struct cpu_busy *busy = NULL;
    uint64_t start, before;

    write_idle(root, 1000, 1000);
    assert_int_equal(cpu_busy_new(&busy, root), 0);
    start = now_ns();
    assert_int_equal(cpu_busy_update(busy, start + NSEC_PER_SEC), 0);
    before = cpu_busy_ns(busy, 1);
    fixture_write(root, "cpu  0 0 0 0 0 0 0\ncpu0 5 0 5 1000 0 0 0 0 0 0\n", "stat");
    assert_int_equal(cpu_busy_update(busy, start + 2 * NSEC_PER_SEC), 0);
    assert_int_equal(cpu_busy_online(busy), 1);
    assert_int_equal(cpu_busy_ns(busy, 1), before);
    write_idle(root, 1000, 1000);
    assert_int_equal(cpu_busy_update(busy, start + 3 * NSEC_PER_SEC), 0);
    assert_int_equal(cpu_busy_ns(busy, 1), before); /* was away: nothing is known of it */
    assert_int_equal(cpu_busy_update(busy, start + 4 * NSEC_PER_SEC), 0);
    assert_int_equal(cpu_busy_ns(busy, 1), before + NSEC_PER_SEC);
    cpu_busy_free(busy);
}

static void test_energy_follows_the_load(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;
    struct reading first, second;
    double watts;

    write_idle(root, 1000, 1000);
    assert_int_equal(estimate_new(&source, &straight, root), 0);
    assert_true(source->ops->estimate);
    assert_string_equal(source->ops->name, "estimate");
    assert_int_equal(source->zones.n, 1);
    assert_string_equal(source->zones.zones[0].name, "package-0");
    assert_int_equal(source->zones.zones[0].socket, ZONE_ALL_SOCKETS);
    source->ops->read(source, &first);
    assert_true(first.valid);
    usleep(100000);
    source->ops->read(source, &second); /* no idle tick went by: both CPUs fully busy */
    assert_true(second.valid);
    watts = (double)(second.energy_uj - first.energy_uj) * 1e3 /
            (double)(second.time_ns - first.time_ns);
    assert_true(watts > 119 && watts < 121);
    fixture_write(root, "garbage", "stat");
    source->ops->read(source, &second);
    assert_false(second.valid);
    energy_source_free(source);
}

static void test_no_stat_file(void **state)
{
    struct energy_source *source = NULL;

    assert_int_equal(estimate_new(&source, &straight, *state), -ENOENT);
    assert_int_equal(estimate_new(&source, &straight, "/nonexistent"), -ENOENT);
    assert_null(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curve),
        cmocka_unit_test_setup_teardown(test_busy_is_what_is_not_idle, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_cpu_goes_offline_and_returns, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_energy_follows_the_load, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_stat_file, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
