/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which gauges a power distribution unit is asked for, and files that do not let it. */

#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fixture.h"
#include "meter/meter_snmp.h"
#include "util/clock.h"

static void test_oids(void **state)
{
    static const char *const wrong[] = {
        "",
        " ",
        ".",
        "1",
        "1.",
        "1..3",
        "1.3.",
        "..1.3",
        "1.3,1.3",
        "1.3 ",
        "a.b",
        "-1.3",
        "3.0",
        "1.40",
        "1.3.4294967296",
        "1.3 1.3 1.3 1.3 1.3 1.3 1.3 1.3 1.3",
    };
    struct snmp_oids oids;
    char text[400] = "1.3";

    assert_int_equal(snmp_parse_oids("1.3.6.1.4.1.318 .2.999.4294967295", &oids), 0);
    assert_int_equal(oids.n, 2);
    assert_int_equal(oids.list[0].n, 7);
    assert_int_equal(oids.list[0].parts[6], 318);
    assert_int_equal(oids.list[1].n, 3);
    assert_true(oids.list[1].parts[2] == UINT32_MAX);
    for (size_t i = 0; i < ELEMENTS(wrong); i++)
        assert_int_equal(snmp_parse_oids(wrong[i], &oids), -EINVAL);
    while (strlen(text) < strlen("1.3") + 2 * (SNMP_OID_PARTS_MAX - 2))
        strcat(text, ".1");
    assert_int_equal(snmp_parse_oids(text, &oids), 0);
    assert_int_equal(oids.list[0].n, SNMP_OID_PARTS_MAX);
    assert_int_equal(snmp_parse_oids(strcat(text, ".1"), &oids), -EINVAL);
}

/* Asks once. */
static struct meter_status ask(const char *root, const char *credentials)
{
    struct snmp_options options = {
        .address = "udp:127.0.0.1:1", .unit_uw = 1000000, .interval_ns = NSEC_PER_SEC};
    struct meter_status status;
    struct meter *meter = NULL;
    sd_event *event;

    fixture_write(root, credentials, "credentials");
    snprintf(options.credentials, sizeof(options.credentials), "%s/credentials", root);
    assert_int_equal(chmod(options.credentials, 0600), 0);
    assert_int_equal(snmp_parse_oids("1.3.6.1", &options.oids), 0);
    assert_int_equal(sd_event_new(&event), 0);
    assert_int_equal(meter_snmp_new(&meter, &(struct meter_host){.event = event}, &options), 0);
    assert_int_equal(meter_start(meter, event), 0);
    while (meter->status.state == METER_WAITING)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    status = meter->status;
    meter_free(meter);
    sd_event_unref(event);
    return status;
}

static void test_credentials(void **state)
{
    static const char *const wrong[] = {
        "user = monitor\npassword = short\n",
        "user = monitor\npassword = long enough\nauth = magic\n",
        "user = monitor\npassword = long enough\nprivacy = magic\n",
        "user = monitor\npassword = long enough\nprivacy = AES\n",
        "pasword = long enough\n",
    };

    for (size_t i = 0; i < ELEMENTS(wrong); i++) {
        struct meter_status status = ask(*state, wrong[i]);

        assert_int_equal(status.state, METER_UNAUTHORISED);
        assert_non_null(strstr(status.detail, "/credentials:"));
        assert_null(strstr(status.detail, "long enough"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oids),
        cmocka_unit_test_setup_teardown(test_credentials, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
