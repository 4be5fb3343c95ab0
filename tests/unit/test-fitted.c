/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "attribution/fitted.h"

static int parse(const char *text, struct fitted_weights *weights, struct config_error *error)
{
    memset(error, 0, sizeof(*error));
    return fitted_parse(text, strlen(text), weights, error);
}

static void test_fitted_file(void **state)
{
    static const char text[] = "# from a fit\n[package]\ncpu_seconds = 8\ncorun_seconds=4.5e0\n"
                               "cycles = 0\n[dram]\nllc_misses = 2.4E-8 ; joules\n"
                               "io_bytes = 1.2e-8\n[core]\ncycles = 1e+300\n[psys]\n"
                               "memory_bytes = 3e-308\n";
    struct fitted_weights weights;
    struct config_error error;

    assert_int_equal(parse(text, &weights, &error), 0);
    assert_int_equal(weights.sections[ZONE_PACKAGE].given, 7);
    assert_true(weights.sections[ZONE_PACKAGE].weights[FEATURE_CPU_SECONDS] == 0.5);
    assert_true(weights.sections[ZONE_PACKAGE].weights[FEATURE_CORUN_SECONDS] == 4.5 / 16);
    assert_true(weights.sections[ZONE_DRAM].weights[FEATURE_LLC_MISSES] ==
                2 * weights.sections[ZONE_DRAM].weights[FEATURE_IO_BYTES]);
    assert_int_equal(weights.sections[ZONE_UNCORE].given, 0);
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        for (unsigned i = 0; i < FEATURES; i++)
            assert_true(weights.sections[kind].weights[i] >= 0 &&
                        weights.sections[kind].weights[i] < 1);
}

static void test_fitted_errors(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *section, *key, *problem;
    } cases[] = {
        {"[package]\ncpu_seconds = -1\n", 2, "package", "cpu_seconds", "\"-1\" is not a number"},
        {"[package]\ncpu_seconds = +1\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds =\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = nan\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = inf\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 1e999\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 1e-999\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 0x10\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 1,5\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = .5\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 5.\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 1e\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncpu_seconds = 1 J\n", 2, "package", "cpu_seconds", "is not a number"},
        {"[package]\ncycles = 1\ncycles = 2\n", 3, "package", "cycles", "given twice"},
        {"[package]\n\nwatts = 1\n", 3, "package", "watts", "not a feature"},
        {"[package-0]\ncycles = 1\n", 2, "package-0", "cycles", "not a kind of zone"},
        {"cycles = 1\n", 1, "", "cycles", "not a kind of zone"},
        {"[package]\ncycles = 0\nio_bytes=0\n[dram]\n", 3, "package", "", "all numbers are 0"},
        {"[dram]\n# cycles = 1\n", 2, "", "", "no feature"},
        {"", 0, "", "", "no feature"},
        {"[package\n", 1, "", "", "neither a section"},
        {"[package]\ncycles\n", 2, "", "", "neither a section"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct fitted_weights weights = {.sections[0].given = 42};
        struct config_error error;

        assert_int_equal(parse(cases[i].text, &weights, &error), -EINVAL);
        assert_int_equal(error.line, cases[i].line);
        assert_string_equal(error.section, cases[i].section);
        assert_string_equal(error.key, cases[i].key);
        if (!strstr(error.problem, cases[i].problem))
            fail_msg("\"%s\" does not say \"%s\"", error.problem, cases[i].problem);
        assert_int_equal(weights.sections[0].given, 42); /* untouched */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fitted_file),
        cmocka_unit_test(test_fitted_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
