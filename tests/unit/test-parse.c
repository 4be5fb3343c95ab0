/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "util/parse.h"

static void test_u64(void **state)
{
    static const struct {
        const char *text;
        int r;
        uint64_t value;
    } cases[] = {
        {"0", 0, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"007", 0, 7},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1\n", -EINVAL, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t value = 42;

        assert_int_equal(parse_u64(cases[i].text, strlen(cases[i].text), &value), cases[i].r);
        assert_int_equal(value, cases[i].r == 0 ? cases[i].value : 42);
    }
}

static void test_u64_between(void **state)
{
    uint64_t value = 42;

    assert_int_equal(parse_u64_between("9", 10, 20, &value), -ERANGE);
    assert_int_equal(parse_u64_between("21", 10, 20, &value), -ERANGE);
    assert_int_equal(parse_u64_between("1x", 10, 20, &value), -EINVAL);
    assert_int_equal(value, 42);
    assert_int_equal(parse_u64_between("10", 10, 20, &value), 0);
    assert_int_equal(value, 10);
    assert_int_equal(parse_u64_between("20", 10, 20, &value), 0);
}

static void test_sysfs_u64(void **state)
{
    uint64_t value = 42;

    assert_int_equal(parse_sysfs_u64("12\n", 3, &value), 0);
    assert_int_equal(value, 12);
    assert_int_equal(parse_sysfs_u64("12\n\n", 4, &value), -EINVAL);
    assert_int_equal(parse_sysfs_u64("\n", 1, &value), -EINVAL);
    assert_int_equal(parse_sysfs_u64("1\0002", 3, &value), -EINVAL);
    assert_int_equal(value, 12);
}

static void test_bool(void **state)
{
    bool value = false;

    assert_int_equal(parse_bool("yes", &value), 0);
    assert_true(value);
    assert_int_equal(parse_bool("off", &value), 0);
    assert_false(value);
    assert_int_equal(parse_bool("YES", &value), -EINVAL);
    assert_int_equal(parse_bool("", &value), -EINVAL);
}

static void test_quantities(void **state)
{
    static const struct {
        int (*parse)(const char *, uint64_t *);
        const char *text;
        int r;
        uint64_t value;
    } cases[] = {
        {parse_duration_ns, "1s", 0, 1000000000},
        {parse_duration_ns, "100ms", 0, 100000000},
        {parse_duration_ns, "1.5s", 0, 1500000000},
        {parse_duration_ns, "2min", 0, 120000000000},
        {parse_duration_ns, "1", -EINVAL, 0},
        {parse_duration_ns, "1 s", -EINVAL, 0},
        {parse_duration_ns, "s", -EINVAL, 0},
        {parse_duration_ns, "1.s", -EINVAL, 0},
        {parse_duration_ns, "-1s", -EINVAL, 0},
        {parse_duration_ns, "1sec", -EINVAL, 0},
        {parse_duration_ns, "18446744073709551615min", -ERANGE, 0},
        {parse_duration_ns, "1.0000000001s", -ERANGE, 0},
        {parse_power_uw, "20.5W", 0, 20500000},
        {parse_power_uw, "800mW", 0, 800000},
        {parse_power_uw, "20", -EINVAL, 0},
        {parse_power_uw, "20w", -EINVAL, 0},
        {parse_energy_uj, "1mJ", 0, 1000},
        {parse_energy_uj, "0uJ", 0, 0},
        {parse_energy_uj, "1J", 0, 1000000},
        {parse_decimal_e9, "0.98", 0, 980000000},
        {parse_decimal_e9, "1", 0, 1000000000},
        {parse_decimal_e9, "1e3", -EINVAL, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t value = 42;

        assert_int_equal(cases[i].parse(cases[i].text, &value), cases[i].r);
        assert_int_equal(value, cases[i].r == 0 ? cases[i].value : 42);
    }
}

static void test_real(void **state)
{
    static const struct {
        const char *text;
        int r;
        double value;
    } cases[] = {
        {"0", 0, 0},           {"12", 0, 12},         {"0.98", 0, 0.98},   {"1.5e-9", 0, 1.5e-9},
        {"2E+3", 0, 2000},     {"0e0", 0, 0},         {"", -EINVAL, 0},    {".5", -EINVAL, 0},
        {"5.", -EINVAL, 0},    {"-1", -EINVAL, 0},    {"+1", -EINVAL, 0},  {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},    {"1e", -EINVAL, 0},    {"1e+", -EINVAL, 0}, {"1e1.5", -EINVAL, 0},
        {"0x1p3", -EINVAL, 0}, {"inf", -EINVAL, 0},   {"nan", -EINVAL, 0}, {"1,5", -EINVAL, 0},
        {"1e309", -ERANGE, 0}, {"1e-400", -ERANGE, 0}};

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        double value = 42;

        assert_int_equal(parse_real(cases[i].text, &value), cases[i].r);
        assert_true(value == (cases[i].r == 0 ? cases[i].value : 42));
    }
}

static void test_mode(void **state)
{
    unsigned mode = 1;

    assert_int_equal(parse_mode("0444", &mode), 0);
    assert_int_equal(mode, 0444);
    assert_int_equal(parse_mode("400", &mode), 0);
    assert_int_equal(mode, 0400);
    assert_int_equal(parse_mode("0999", &mode), -EINVAL);
    assert_int_equal(parse_mode("", &mode), -EINVAL);
    assert_int_equal(parse_mode("04444", &mode), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),        cmocka_unit_test(test_u64_between),
        cmocka_unit_test(test_sysfs_u64),  cmocka_unit_test(test_bool),
        cmocka_unit_test(test_quantities), cmocka_unit_test(test_real),
        cmocka_unit_test(test_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
