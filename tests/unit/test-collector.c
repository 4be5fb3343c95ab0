/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "requests/collector.h"
#include "util/clock.h"
#include "util/file.h"

static const struct request_config config = {.idle_power_uw = 1000000};

/* A tick of the second it is: 10 units of work in each, 4 ns at one frequency from the third on. */
static void add(struct collector *collector, uint64_t second, struct powercap_energy energy)
{
    struct collect_work work = {
        .totals = {.work = (second * 10) << REQUEST_WORK_BITS,
                   .runtime_ns = second * 100,
                   .wakeups = second * 2,
                   .migrations = second,
                   .counted = {second * 1000, second * 2000, second * 3000}},
        .n_frequencies = second >= 3,
        .frequencies = {{1800000, second * 4 - 8}},
    };

    collector_add(collector, second * NSEC_PER_SEC, &work, &energy);
}

static struct collector *begin(const char *root, char path[PATH_MAX])
{
    struct collector *collector = NULL;

    snprintf(path, PATH_MAX, "%s/rows.csv", root);
    assert_int_equal(collector_new(&collector, path, "a", &config), 0);
    return collector;
}

/* Without the header, and without the time in front of each row. */
static void assert_rows(const char *path, const char *expected)
{
    char text[8192], rows[8192] = "", *rest = NULL;

    assert_true(read_file(AT_FDCWD, path, text, sizeof(text)) > 0);
    strtok_r(text, "\n", &rest);
    for (char *line; (line = strtok_r(NULL, "\n", &rest));) {
        strcat(rows, strchr(line, ',') + 1);
        strcat(rows, "\n");
    }
    assert_string_equal(rows, expected);
}

/* Energy that is late by half an interval, beside the work of the time it is of. */
static void test_late_energy(void **state)
{
    char path[PATH_MAX];
    struct collector *collector = begin(*state, path);
    struct powercap_energy energy = {.known = true, .delay_ns = NSEC_PER_SEC / 2};

    for (uint64_t second = 1; second <= 4; second++) {
        energy.energy_uj = second * 3000000;
        add(collector, second, energy);
    }
    assert_null(collector_free(collector));
    assert_rows(path, "a,psys,1000000000,3000000,2000000,1000000,10,100,2,1000,2000,3000,1,"
                      "1800000:2\n"
                      "a,psys,1000000000,3000000,2000000,1000000,10,100,2,1000,2000,3000,1,"
                      "1800000:4\n");
}

/* Time without a tree is part of the next row; what a reset hid is in none. */
static void test_unknown_energy(void **state)
{
    char path[PATH_MAX];
    struct collector *collector = begin(*state, path);

    add(collector, 1, (struct powercap_energy){0});
    add(collector, 2, (struct powercap_energy){.known = true, .energy_uj = 5});
    add(collector, 3, (struct powercap_energy){.energy_uj = 5});
    add(collector, 4, (struct powercap_energy){.known = true, .energy_uj = 6000005});
    add(collector, 5, (struct powercap_energy){.reset = true, .energy_uj = 6000005});
    add(collector, 6, (struct powercap_energy){.known = true, .energy_uj = 6000006});
    add(collector, 7, (struct powercap_energy){.known = true, .energy_uj = 6500006});
    collector_free(collector);
    assert_rows(path, "a,psys,2000000000,6000000,4000000,2000000,20,200,4,2000,4000,6000,2,"
                      "1800000:8\n"
                      "a,psys,1000000000,500000,0,500000,10,100,2,1000,2000,3000,1,1800000:4\n");
}

/* A delay that jumps tells of no moment twice; one that is longer than all that is kept of none. */
static void test_delay(void **state)
{
    char path[PATH_MAX];
    struct collector *collector = begin(*state, path);
    struct powercap_energy energy = {.known = true};

    for (uint64_t second = 1; second <= 3; second++)
        add(collector, second, energy);
    energy.delay_ns = 2 * NSEC_PER_SEC;
    add(collector, 4, energy);
    energy.delay_ns = 60 * NSEC_PER_SEC;
    add(collector, 5, energy);
    collector_free(collector);
    assert_rows(path, "a,psys,1000000000,0,0,0,10,100,2,1000,2000,3000,1,1800000:4\n");
}

static void test_bad_file(void **state)
{
    struct collector *collector = NULL;

    assert_int_equal(collector_new(&collector, "/nonexistent/rows", "", &config), -ENOENT);
    assert_int_equal(collector_new(&collector, "/dev/full", "", &config), -EIO);
    assert_null(collector);
    assert_null(collector_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_late_energy, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_energy, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_delay, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_bad_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
