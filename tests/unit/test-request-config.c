/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "documented_keys.h"
#include "requests/request_config.h"

static int parse(const char *text, struct request_config *config, struct config_error *error)
{
    memset(error, 0, sizeof(*error));
    return request_config_parse(text, strlen(text), config, error);
}

static void assert_defaults(const struct request_config *config)
{
    assert_int_equal(config->mode, ATTRIBUTION_PSYS);
    assert_true(config->weights.default_multiplier == 1);
    assert_true(config->weights.wakeup == 0 && config->weights.cycles == 0);
    assert_true(config->weights.instructions == 0 && config->weights.cache_miss == 0);
    assert_true(config->weights.migration == 0);
    assert_int_equal(config->weights.n_frequencies, 0);
    assert_int_equal(config->idle_power_uw, 0);
    assert_int_equal(config->psys_interval_ms, 1000);
    assert_string_equal(config->tree, "");
    assert_int_equal(config->n_cgroups, 0);
    assert_string_equal(config->access_log, "");
    assert_int_equal(config->access_log_max_bytes, 1 << 30);
    assert_string_equal(config->listen, "127.0.0.1:19178");
}

static void test_defaults(void **state)
{
    struct request_config config;
    struct config_error error;

    assert_int_equal(parse("", &config, &error), 0);
    assert_defaults(&config);
}

/* The documented configuration is valid, and changes nothing. */
static void test_documented_defaults(void **state)
{
    struct request_config config;

    assert_int_equal(request_config_load(SOURCE_ROOT "/docs/virtjoule-requests.conf", &config), 0);
    assert_defaults(&config);
}

static void test_documents(void **state)
{
    static const struct documented_key others[] = {{"", "cgroup"}, {"", "freq_khz"}, {NULL, NULL}};
    static const struct key_documents documents = {
        .configuration = "docs/virtjoule-requests.conf",
        .page = "man/virtjoule-requests.8.scd",
        .heading = "# CONFIGURATION",
        .others = others,
    };

    assert_documented(request_config_keys.keys, request_config_keys.n, &documents);
}

static void test_every_key(void **state)
{
    static const char text[] = "attribution_mode = model ; weights are microjoules\n"
                               "default_multiplier = 0.0105\n"
                               "wakeup_penalty = 1.5\n"
                               "cycles_weight = 2.5e-3\n"
                               "instructions_weight = 1e-4\n"
                               "cache_miss_weight = 0.02\n"
                               "migration_penalty = 7\n"
                               "idle_power_uw = 1500000\n"
                               "psys_interval_ms = 100\n"
                               "freq_khz = 2400000 1.5\n"
                               "freq_khz=800000 0.5\n"
                               "freq_khz = 1800000\t1\n"
                               "tree = /run/tree\n"
                               "cgroup = /sys/fs/cgroup/system.slice/nginx.service\n"
                               "cgroup = app@1.service\n"
                               "access_log = /var/log/requests.json\n"
                               "access_log_max_bytes = 1000\n"
                               "listen =\n";
    struct request_config config;
    struct config_error error;

    assert_int_equal(parse(text, &config, &error), 0);
    assert_int_equal(config.mode, ATTRIBUTION_MODEL);
    assert_true(config.weights.default_multiplier == 0.0105);
    assert_true(config.weights.wakeup == 1.5);
    assert_true(config.weights.cycles == 2.5e-3);
    assert_true(config.weights.instructions == 1e-4);
    assert_true(config.weights.cache_miss == 0.02);
    assert_true(config.weights.migration == 7);
    assert_int_equal(config.idle_power_uw, 1500000);
    assert_int_equal(config.psys_interval_ms, 100);
    assert_int_equal(config.weights.n_frequencies, 3);
    assert_int_equal(config.weights.frequencies[0].khz, 800000);
    assert_true(config.weights.frequencies[0].multiplier == 0.5);
    assert_int_equal(config.weights.frequencies[1].khz, 1800000);
    assert_int_equal(config.weights.frequencies[2].khz, 2400000);
    assert_true(config.weights.frequencies[2].multiplier == 1.5);
    assert_string_equal(config.tree, "/run/tree");
    assert_int_equal(config.n_cgroups, 2);
    assert_string_equal(config.cgroups[0], "/sys/fs/cgroup/system.slice/nginx.service");
    assert_string_equal(config.cgroups[1], "app@1.service");
    assert_string_equal(config.access_log, "/var/log/requests.json");
    assert_int_equal(config.access_log_max_bytes, 1000);
    assert_string_equal(config.listen, "");
}

static void test_errors_name_the_place(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *key, *problem; /* the problem's text contains this */
    } cases[] = {
        {"attribution_mode = psis\n", 1, "attribution_mode", "psys or model"},
        {"\n\ndefault_multiplier = -1\n", 3, "default_multiplier", "a number from 0"},
        {"wakeup_penalty = 1000001\n", 1, "wakeup_penalty", "a number from 0 to 1000000"},
        {"default_multiplier = 10.1\n", 1, "default_multiplier", "a number from 0 to 10"},
        {"cycles_weight = inf\n", 1, "cycles_weight", "a number from 0"},
        {"idle_power_uw = 1.5\n", 1, "idle_power_uw", "whole number of microwatts"},
        {"idle_power_uw = 10000000001\n", 1, "idle_power_uw", "up to 10000000000"},
        {"psys_interval_ms = 9\n", 1, "psys_interval_ms", "10 to 60000"},
        {"psys_interval_ms = 60001\n", 1, "psys_interval_ms", "10 to 60000"},
        {"psys_interval_ms = 1s\n", 1, "psys_interval_ms", "milliseconds"},
        {"psys_interval_ms = 10\npsys_interval_ms = 10\n", 2, "psys_interval_ms", "given twice"},
        {"freq_khz = 1800000\n", 1, "freq_khz", "a frequency in kHz and a number"},
        {"freq_khz = 0 1\n", 1, "freq_khz", "a frequency in kHz"},
        {"freq_khz = 4294967296 1\n", 1, "freq_khz", "a frequency in kHz"},
        {"freq_khz = 5 1 2\n", 1, "freq_khz", "a frequency in kHz"},
        {"freq_khz = 9 1\nfreq_khz = 5 1\nfreq_khz = 9 2\n", 3, "freq_khz", "9 is given twice"},
        {"tree = sys\n", 1, "tree", "an absolute path"},
        {"cgroup = nginx\n", 1, "cgroup", "the name of a unit"},
        {"cgroup = /sys/fs/cgroup/../x\n", 1, "cgroup", "the absolute path of a cgroup"},
        {"cgroup = a.service\ncgroup = a.service\n", 2, "cgroup", "given twice"},
        {"access_log = log\n", 1, "access_log", "an absolute path"},
        {"access_log_max_bytes = 1M\n", 1, "access_log_max_bytes", "number of bytes"},
        {"listen = 19178\n", 1, "listen", "an address and port"},
        {"interval = 1s\n", 1, "interval", "unknown key"},
        {"[requests]\ntree = auto\n", 2, "tree", "no sections"},
        {"just words\n", 1, "", "neither a section"},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct request_config config = {.idle_power_uw = 42};
        struct config_error error;

        assert_int_equal(parse(cases[i].text, &config, &error), -EINVAL);
        assert_int_equal(error.line, cases[i].line);
        assert_string_equal(error.key, cases[i].key);
        if (!strstr(error.problem, cases[i].problem))
            fail_msg("\"%s\" does not say \"%s\"", error.problem, cases[i].problem);
        assert_int_equal(config.idle_power_uw, 42); /* untouched */
    }
}

/* n lines "key = <format of i>". */
static char *repeat(char *text, size_t size, const char *format, int n)
{
    size_t length = 0;

    for (int i = 1; i <= n; i++)
        length += (size_t)snprintf(text + length, size - length, format, i);
    return text;
}

static void test_tables_end(void **state)
{
    struct request_config config;
    struct config_error error;
    char text[8192];

    assert_int_equal(
        parse(repeat(text, sizeof(text), "cgroup = a%d.service\n", 64), &config, &error), 0);
    assert_int_equal(config.n_cgroups, REQUEST_CGROUPS_MAX);
    assert_int_equal(
        parse(repeat(text, sizeof(text), "cgroup = a%d.service\n", 65), &config, &error), -EINVAL);
    assert_int_equal(error.line, 65);
    assert_int_equal(parse(repeat(text, sizeof(text), "freq_khz = %d 1\n", 128), &config, &error),
                     0);
    assert_int_equal(config.weights.n_frequencies, REQUEST_MULTIPLIERS_MAX);
    assert_int_equal(parse(repeat(text, sizeof(text), "freq_khz = %d 1\n", 129), &config, &error),
                     -EINVAL);
    assert_int_equal(error.line, 129);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_documented_defaults),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_errors_name_the_place),
        cmocka_unit_test(test_tables_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
