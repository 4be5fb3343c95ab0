/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Power sensors in a directory laid out like /sys. */

#include "unit.h"

#include <errno.h>
#include <string.h>

#include "fixture.h"
#include "meter/meter_hwmon.h"
#include "util/clock.h"

#define WATT UINT64_C(1000000)

static void test_sensor_lists(void **state)
{
    static const char *const wrong[] = {
        "",
        "power_meter",
        "power_meter/",
        "power_meter/power",
        "power_meter/power0",
        "power_meter/power1000",
        "power_meter/power1x",
        "power_meter/curr1",
        "/power1",
        "a/power1 ",
        "a/power1,b/power1",
        "a b/power1",
        "a/power1 a/power1 a/power1 a/power1 a/power1 a/power1 a/power1 a/power1 a/power1",
        "a234567890123456789012345678901234567890123456789012345678901234/power1",
    };
    struct hwmon_sensors sensors;

    assert_int_equal(hwmon_parse_sensors("ina226/power1  psu/energy12", &sensors), 0);
    assert_int_equal(sensors.n, 2);
    assert_string_equal(sensors.list[0].chip, "ina226");
    assert_false(sensors.list[0].energy);
    assert_int_equal(sensors.list[0].number, 1);
    assert_string_equal(sensors.list[1].chip, "psu");
    assert_true(sensors.list[1].energy);
    assert_int_equal(sensors.list[1].number, 12);
    for (size_t i = 0; i < ELEMENTS(wrong); i++)
        assert_int_equal(hwmon_parse_sensors(wrong[i], &sensors), -EINVAL);
}

/* Asks once. */
static struct meter_status ask(const char *root, const char *sensors)
{
    struct hwmon_options options = {.interval_ns = 5 * NSEC_PER_SEC};
    struct meter_status status;
    struct meter *meter = NULL;
    sd_event *event;

    assert_int_equal(hwmon_parse_sensors(sensors, &options.sensors), 0);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(meter_hwmon_new(&meter, &(struct meter_host){event, root}, &options), 0);
    assert_int_equal(meter_start(meter, event), 0);
    while (meter->status.state == METER_WAITING)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    status = meter->status;
    meter_free(meter);
    sd_event_unref(event);
    return status;
}

static void test_power(void **state)
{
    const char *root = *state;
    struct meter_status status;

    fixture_write(root, "nvme\n", "class/hwmon/hwmon0/name");
    fixture_write(root, "power_meter\n", "class/hwmon/hwmon1/name");
    fixture_write(root, "291000000\n", "class/hwmon/hwmon1/power1_average");
    fixture_write(root, "1000\n", "class/hwmon/hwmon1/power1_average_interval");
    status = ask(root, "power_meter/power1");
    assert_int_equal(status.state, METER_OK);
    assert_true(status.last.power_uw == 291 * WATT);
    assert_true(status.last.averaged_ns == NSEC_PER_SEC);
    assert_true(status.last.resolution_uw > 0);
}

/* Two supplies are two chips of one name. */
static void test_sum(void **state)
{
    const char *root = *state;
    struct meter_status status;

    for (int i = 0; i < 2; i++) {
        fixture_write(root, "psu\n", "class/hwmon/hwmon%d/name", i);
        fixture_write(root, i ? "100000000\n" : "90500000\n", "class/hwmon/hwmon%d/power1_input",
                      i);
        fixture_write(root, "7000000\n", "class/hwmon/hwmon%d/power2_input", i);
    }
    status = ask(root, "psu/power1");
    assert_int_equal(status.state, METER_OK);
    assert_true(status.last.power_uw == 190500000);
    assert_true(ask(root, "psu/power1 psu/power2").last.power_uw == 204500000);
}

/* Without one part, the sum is not known. */
static void test_part_missing(void **state)
{
    const char *root = *state;
    struct meter_status status;

    fixture_write(root, "psu\n", "class/hwmon/hwmon0/name");
    fixture_write(root, "90500000\n", "class/hwmon/hwmon0/power1_input");
    fixture_write(root, "psu\n", "class/hwmon/hwmon1/name");
    assert_int_equal(ask(root, "psu/power1").state, METER_ABSENT);
    fixture_write(root, "garbage\n", "class/hwmon/hwmon1/power1_input");
    status = ask(root, "psu/power1");
    assert_int_equal(status.state, METER_MALFORMED);
    assert_string_equal(status.detail, "psu/power1: Invalid argument");
    fixture_write(root, "0\n", "class/hwmon/hwmon0/power1_input");
    fixture_write(root, "0\n", "class/hwmon/hwmon1/power1_input");
    assert_int_equal(ask(root, "psu/power1").state, METER_ABSURD);
    assert_int_equal(ask(root, "other/power1").state, METER_ABSENT);
}

static void test_no_class(void **state)
{
    assert_int_equal(ask(*state, "power_meter/power1").state, METER_ABSENT);
}

/* A counter that moves between the meter's looks. */
static void test_energy(void **state)
{
    const char *root = *state;
    struct hwmon_options options = {.interval_ns = NSEC_PER_SEC / 2};
    struct meter *meter = NULL;
    sd_event *event;

    fixture_write(root, "board\n", "class/hwmon/hwmon0/name");
    fixture_write(root, "5000000\n", "class/hwmon/hwmon0/energy1_input");
    assert_int_equal(hwmon_parse_sensors("board/energy1", &options.sensors), 0);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(meter_hwmon_new(&meter, &(struct meter_host){event, root}, &options), 0);
    assert_int_equal(meter_start(meter, event), 0);
    /* The first look finds it standing still: 0 W is no machine's power. */
    while (meter->status.asked[METER_ABSURD] == 0)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    fixture_write(root, "105000000\n", "class/hwmon/hwmon0/energy1_input");
    while (meter->status.asked[METER_OK] == 0)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    /* 100 J, over the time that it says. */
    assert_true(meter->status.last.averaged_ns >= NSEC_PER_SEC / 2);
    assert_in_range(meter->status.last.power_uw,
                    100 * WATT * NSEC_PER_SEC / meter->status.last.averaged_ns - 1,
                    100 * WATT * NSEC_PER_SEC / meter->status.last.averaged_ns + 1);
    meter_free(meter);
    sd_event_unref(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sensor_lists),
        cmocka_unit_test_setup_teardown(test_power, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sum, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_part_missing, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_class, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_energy, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
