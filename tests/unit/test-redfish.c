/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Answers of Redfish services: of three vendors, cut to what matters here, and wrong ones. */

#include "unit.h"

#include <string.h>

#include "meter/redfish.h"

#define WATT UINT64_C(1000000)

static enum meter_state parse_power(const char *body, uint64_t *ret_power_uw)
{
    uint64_t resolution_uw = 0;
    enum meter_state state = redfish_parse_power(body, strlen(body), ret_power_uw, &resolution_uw);

    assert_true(state != METER_OK || resolution_uw > 0);
    return state;
}

static void test_power(void **state)
{
    static const struct {
        const char *body;
        uint64_t expected_uw;
    } cases[] = {
        /* Dell iDRAC 9 */
        {"{\"@odata.id\":\"/redfish/v1/Chassis/System.Embedded.1/Power\",\"PowerControl\":[{"
         "\"MemberId\":\"PowerControl\",\"Name\":\"System Power Control\","
         "\"PowerAllocatedWatts\":884,\"PowerConsumedWatts\":291,\"PowerMetrics\":{"
         "\"AverageConsumedWatts\":288,\"IntervalInMin\":1}}]}",
         291 * WATT},
        /* HPE iLO 5 */
        {"{\"@odata.id\":\"/redfish/v1/Chassis/1/Power\",\"PowerControl\":[{"
         "\"@odata.id\":\"/redfish/v1/Chassis/1/Power/#PowerControl/0\",\"MemberId\":\"0\","
         "\"PowerCapacityWatts\":1600,\"PowerConsumedWatts\":139,\"PowerMetrics\":{"
         "\"AverageConsumedWatts\":139,\"IntervalInMin\":20}}]}\r\n",
         139 * WATT},
        /* OpenBMC */
        {"{\"PowerControl\":[{\"MemberId\":\"0\",\"Name\":\"Chassis Power Control\","
         "\"PowerConsumedWatts\":344.5,\"PowerLimit\":{\"LimitInWatts\":null}}]}\n",
         344500000},
        /* Controls of modules come first, or there is nothing to say of them. */
        {"{\"PowerControl\":[{\"PhysicalContext\":\"CPU\",\"PowerConsumedWatts\":90},"
         "{\"PowerConsumedWatts\":null},"
         "{\"PhysicalContext\":\"Chassis\",\"PowerConsumedWatts\":210}]}",
         210 * WATT},
        {"{\"PowerWatts\":{\"DataSourceUri\":\"/redfish/v1/Chassis/1/Sensors/p\","
         "\"Reading\":374}}",
         374 * WATT},
        {"{\"PowerWatts\":{\"Reading\":0}}", 0},
        {"{\"PowerWatts\":{\"Reading\":-5}}", 0},
        {"{\"PowerWatts\":{\"Reading\":1e300}}", 1000000000 * WATT},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t power_uw;

        assert_int_equal(parse_power(cases[i].body, &power_uw), METER_OK);
        assert_true(power_uw == cases[i].expected_uw);
    }
}

/* An integer of more than 64 bits is the largest to json-c 0.16, and refused by 0.18. */
static void test_power_beyond_integers(void **state)
{
    uint64_t power_uw = 0;
    enum meter_state read =
        parse_power("{\"PowerWatts\":{\"Reading\":99999999999999999999}}", &power_uw);

    if (read == METER_OK)
        assert_true(power_uw == 1000000000 * WATT);
    else
        assert_int_equal(read, METER_MALFORMED);
}

static void test_no_power(void **state)
{
    static const struct {
        const char *body;
        enum meter_state expected;
    } cases[] = {
        {"{}", METER_ABSENT},
        {"{\"PowerControl\":[]}", METER_ABSENT},
        {"{\"PowerControl\":[{}]}", METER_ABSENT},
        {"{\"PowerControl\":[{\"PowerConsumedWatts\":null}]}", METER_ABSENT},
        {"{\"PowerWatts\":{\"Reading\":null}}", METER_ABSENT},
        {"{\"PowerWatts\":null}", METER_ABSENT},
        {"{\"PowerControl\":[{\"PowerConsumedWatts\":\"291\"}]}", METER_MALFORMED},
        {"{\"PowerControl\":[{\"PowerConsumedWatts\":true}]}", METER_MALFORMED},
        {"{\"PowerControl\":[291]}", METER_MALFORMED},
        {"{\"PowerControl\":[null]}", METER_MALFORMED},
        {"{\"PowerWatts\":{\"Reading\":NaN}}", METER_MALFORMED},
        {"<html><body>Log in</body></html>", METER_MALFORMED},
        {"", METER_MALFORMED},
        {"291", METER_MALFORMED},
        {"[]", METER_MALFORMED},
        {"null", METER_MALFORMED},
        {"{\"PowerWatts\":{\"Reading\":374}", METER_MALFORMED},
        {"{\"PowerWatts\":{\"Reading\":374}} {}", METER_MALFORMED},
        {"{\"PowerWatts\":{\"Reading\":374}}<html>", METER_MALFORMED},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t power_uw;

        assert_int_equal(parse_power(cases[i].body, &power_uw), cases[i].expected);
    }
}

static void test_depth(void **state)
{
    char body[400];
    uint64_t power_uw;

    memset(body, '[', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    memcpy(body, "{\"a\":", 5);
    assert_int_equal(parse_power(body, &power_uw), METER_MALFORMED);
}

static void test_links(void **state)
{
    static const char collection[] =
        "{\"Members\":[{\"@odata.id\":\"/redfish/v1/Chassis/1\"},"
        "{\"@odata.id\":\"//elsewhere/redfish\"},{\"@odata.id\":\"https://elsewhere/\"},"
        "{\"@odata.id\":5},{},null,\"/redfish\",{\"@odata.id\":\"/a b\"},{\"@odata.id\":\"/a\\n\"},"
        "{\"@odata.id\":\"/redfish/v1/Chassis/2\"}]}";
    static const char chassis[] =
        "{\"Power\":{\"@odata.id\":\"/redfish/v1/Chassis/1/Power\"},"
        "\"EnvironmentMetrics\":{\"@odata.id\":\"/redfish/v1/Chassis/1/EnvironmentMetrics\"},"
        "\"Thermal\":{\"@odata.id\":\"/redfish/v1/Chassis/1/Thermal\"}}";
    struct redfish_links links = {0};

    assert_int_equal(redfish_parse_links(collection, strlen(collection), &links), METER_OK);
    assert_int_equal(links.n, 2);
    assert_string_equal(links.paths[0], "/redfish/v1/Chassis/1");
    assert_string_equal(links.paths[1], "/redfish/v1/Chassis/2");
    links.n = 0;
    assert_int_equal(redfish_parse_links(chassis, strlen(chassis), &links), METER_OK);
    assert_int_equal(links.n, 2);
    assert_string_equal(links.paths[0], "/redfish/v1/Chassis/1/EnvironmentMetrics");
    assert_string_equal(links.paths[1], "/redfish/v1/Chassis/1/Power");
    assert_int_equal(redfish_parse_links("<html>", 6, &links), METER_MALFORMED);
    for (int i = 0; i < 20; i++)
        assert_int_equal(redfish_parse_links(collection, strlen(collection), &links), METER_OK);
    assert_int_equal(links.n, REDFISH_LINKS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power),    cmocka_unit_test(test_power_beyond_integers),
        cmocka_unit_test(test_no_power), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
