/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "fixture.h"
#include "platform/platform_store.h"

static const struct platform_relation learned[] = {
    {"dcmi",
     true,
     {.state = STATIC_LEARNED,
      .known = true,
      .static_watts = 177.8,
      .static_sigma = 3.7,
      .slope = 1.334,
      .slope_sigma = 0.019,
      .io_joules_per_byte = 2e-8,
      .window_s = 5,
      .delay_s = 10,
      .scatter_watts = 2.25}},
    {"snmp", false, {.state = STATIC_LEARNED, .known = true, .slope = 12, .window_s = 1}},
};

static int parse(const char *text, struct platform_relation *ret)
{
    return platform_relation_parse(text, strlen(text), ret);
}

static void assert_same(const struct platform_relation *one, const struct platform_relation *other)
{
    char texts[2][PLATFORM_RELATION_MAX];

    assert_true(platform_relation_format(one, texts[0], sizeof(texts[0])) > 0);
    assert_true(platform_relation_format(other, texts[1], sizeof(texts[1])) > 0);
    assert_string_equal(texts[0], texts[1]);
    assert_int_equal(one->estimate.state, other->estimate.state);
    assert_int_equal(one->estimate.known, other->estimate.known);
}

static void test_line(void **state)
{
    struct platform_relation relation;
    char text[PLATFORM_RELATION_MAX];

    assert_true(platform_relation_format(&learned[0], text, sizeof(text)) > 0);
    assert_string_equal(text, "dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25\n");
    assert_int_equal(platform_relation_format(&learned[0], text, strlen(text)), -ENOSPC);
    assert_int_equal(parse("dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25", &relation), 0);
    assert_same(&relation, &learned[0]);
}

static void test_bad_lines(void **state)
{
    static const struct {
        const char *line;
        int r;
    } cases[] = {
        {"", -EINVAL},
        {"dcmi", -EINVAL},
        {"dcmi watts", -EINVAL},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10", -EINVAL},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25 ", -EINVAL},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25 1", -EINVAL},
        {"dcmi  watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25", -EINVAL},
        {"dcmi volts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25", -EINVAL},
        {"abcdefghijklmnop watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25", -EINVAL},
        {"dcmi watts -177.8 3.7 1.334 0.019 2e-08 5 10 2.25", -EINVAL},
        {"dcmi watts nan 3.7 1.334 0.019 2e-08 5 10 2.25", -EINVAL},
        {"dcmi watts 1e999 3.7 1.334 0.019 2e-08 5 10 2.25", -ERANGE},
        {"dcmi watts 60001 3.7 1.334 0.019 2e-08 5 10 2.25", -ERANGE},
        {"dcmi watts 177.8 3.7 0 0.019 2e-08 5 10 2.25", -ERANGE},
        {"dcmi watts 177.8 3.7 1.334 0.019 2 5 10 2.25", -ERANGE},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 0 10 2.25", -ERANGE},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 31 10 2.25", -ERANGE},
        {"dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 21 2.25", -ERANGE},
    };
    static const char with_nul[] = "dcmi watts 177.8 3.7 1.334 0.019 2e-08 5 10 2.25\0 1";
    char long_line[PLATFORM_RELATION_MAX];
    struct platform_relation relation = learned[1];

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        if (parse(cases[i].line, &relation) != cases[i].r)
            fail_msg("\"%s\"", cases[i].line);
    assert_int_equal(platform_relation_parse(with_nul, sizeof(with_nul) - 1, &relation), -EINVAL);
    memset(long_line, '1', sizeof(long_line));
    assert_int_equal(platform_relation_parse(long_line, sizeof(long_line), &relation), -EINVAL);
    assert_same(&relation, &learned[1]);
}

static void test_file(void **state)
{
    const char *root = *state;
    struct platform_relation relations[PLATFORM_METERS_MAX];

    assert_int_equal(platform_store_load(root, relations), 0);
    assert_int_equal(platform_store_save(root, learned, ELEMENTS(learned)), 0);
    assert_int_equal(platform_store_load(root, relations), ELEMENTS(learned));
    for (size_t i = 0; i < ELEMENTS(learned); i++)
        assert_same(&relations[i], &learned[i]);
    assert_int_equal(platform_store_save(root, learned, 0), 0);
    assert_int_equal(platform_store_load(root, relations), 0);
}

/* All or nothing. */
static void test_bad_files(void **state)
{
#define LINE "snmp cores 0 0 12 0 0 1 0 0\n"
    static const char *const texts[] = {
        LINE "dcmi watts 177.8\n",
        LINE "snmp",
        "\n",
    };
    char too_many[(PLATFORM_METERS_MAX + 1) * sizeof(LINE)] = "";
    const char *root = *state;
    struct platform_relation relations[PLATFORM_METERS_MAX];

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        fixture_write(root, texts[i], "platform");
        assert_int_equal(platform_store_load(root, relations), 0);
    }
    for (size_t i = 0; i <= PLATFORM_METERS_MAX; i++)
        strcat(too_many, LINE);
#undef LINE
    fixture_write(root, too_many, "platform");
    assert_int_equal(platform_store_load(root, relations), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test_setup_teardown(test_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
