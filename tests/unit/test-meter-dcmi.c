/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What BMCs answer to Get Power Reading, and devices that are none. */

#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "meter/meter_dcmi.h"

/* 291 W now; 100 to 480 W and 200 W on average over 1000 ms. */
#define READING(watts_low, watts_high, state)                                                      \
    {                                                                                              \
        0x00, 0xdc, watts_low, watts_high, 100, 0, 0xe0, 0x01, 200, 0, 0x80, 0x43, 0x6d, 0x38,     \
            232, 3, 0, 0, state                                                                    \
    }

static void test_reading(void **state)
{
    static const unsigned char data[] = READING(0x23, 0x01, 0x40);
    struct dcmi_power power;
    const char *detail;

    assert_int_equal(dcmi_parse_power(data, sizeof(data), &power, &detail), METER_OK);
    assert_int_equal(power.current_w, 291);
    assert_int_equal(power.min_w, 100);
    assert_int_equal(power.max_w, 480);
    assert_int_equal(power.average_w, 200);
    assert_int_equal(power.time_s, 0x386d4380);
    assert_int_equal(power.period_ms, 1000);
    assert_true(power.active);
}

/* Other bits of the state are reserved: they may be set. */
static void test_measurement_state(void **state)
{
    static const struct {
        unsigned char bits;
        enum meter_state expected;
    } cases[] = {
        {0x40, METER_OK},       {0x41, METER_OK},       {0xff, METER_OK},
        {0x00, METER_INACTIVE}, {0xbf, METER_INACTIVE}, {0x01, METER_INACTIVE},
    };
    struct dcmi_power power;
    const char *detail;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        unsigned char data[] = READING(0x23, 0x01, cases[i].bits);

        assert_int_equal(dcmi_parse_power(data, sizeof(data), &power, &detail), cases[i].expected);
    }
}

static void test_every_length(void **state)
{
    static const unsigned char data[] = READING(0x23, 0x01, 0x40);
    unsigned char longer[64] = {0};
    struct dcmi_power power;
    const char *detail;

    for (size_t length = 0; length < sizeof(data); length++)
        assert_int_equal(dcmi_parse_power(data, length, &power, &detail), METER_MALFORMED);
    memcpy(longer, data, sizeof(data));
    assert_int_equal(dcmi_parse_power(longer, sizeof(longer), &power, &detail), METER_OK);
}

static void test_other_group(void **state)
{
    unsigned char data[] = READING(0x23, 0x01, 0x40);
    struct dcmi_power power;
    const char *detail;

    data[1] = 0xdd;
    assert_int_equal(dcmi_parse_power(data, sizeof(data), &power, &detail), METER_MALFORMED);
}

/* An error comes without data, or with what the BMC had in its buffer. */
static void test_completion_codes(void **state)
{
    static const struct {
        unsigned char code;
        enum meter_state expected;
    } cases[] = {
        {0xc0, METER_BUSY},   {0xd2, METER_BUSY},         {0xff, METER_BUSY},
        {0xc1, METER_ABSENT}, {0xd4, METER_UNAUTHORISED}, {0xd5, METER_INACTIVE},
        {0xc3, METER_SILENT}, {0x01, METER_BUSY},
    };
    unsigned char data[] = READING(0x23, 0x01, 0x40);
    struct dcmi_power power;
    const char *detail;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        data[0] = cases[i].code;
        assert_int_equal(dcmi_parse_power(data, 1, &power, &detail), cases[i].expected);
        assert_int_equal(dcmi_parse_power(data, sizeof(data), &power, &detail), cases[i].expected);
    }
}

/* Asks a device once, and lets the meter tell what became of it. */
static struct meter_status ask_device(const char *path)
{
    struct dcmi_options options = {.interval_ns = 5000000000};
    struct meter_status status;
    struct meter *meter = NULL;
    sd_event *event;

    strncpy(options.device, path, sizeof(options.device) - 1);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(meter_dcmi_new(&meter, &(struct meter_host){.event = event}, &options), 0);
    assert_int_equal(meter_start(meter, event), 0);
    while (meter->status.state == METER_WAITING)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    status = meter->status;
    meter_free(meter);
    sd_event_unref(event);
    return status;
}

static void test_wrong_device(void **state)
{
    char path[] = "/tmp/test-meter-dcmi-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(ask_device(path).state, METER_ABSENT);
    assert_string_equal(ask_device(path).detail, "not an IPMI device");
    unlink(path);
    assert_string_equal(ask_device("/dev/null").detail, "not an IPMI device");
    assert_int_equal(ask_device("/nowhere/ipmi0").state, METER_ABSENT);
    assert_int_equal(ask_device("/nowhere/ipmi0").asked[METER_ABSENT], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),          cmocka_unit_test(test_measurement_state),
        cmocka_unit_test(test_every_length),     cmocka_unit_test(test_other_group),
        cmocka_unit_test(test_completion_codes), cmocka_unit_test(test_wrong_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
