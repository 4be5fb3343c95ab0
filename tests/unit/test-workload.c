/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The pure parts of the workload server and the load generator. */

#include "unit.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mix.h"
#include "summary.h"
#include "work.h"

static void test_work_targets(void **state)
{
    static const struct {
        const char *target;
        int r;
        enum work_kind kind;
        uint64_t n;
    } cases[] = {
        {"/cpu?iters=1000", 0, WORK_CPU, 1000},
        {"/json?items=0", 0, WORK_JSON, 0},
        {"/compress?kb=131072", 0, WORK_COMPRESS, 131072},
        {"/file?kb=1", 0, WORK_FILE, 1},
        {"/post?kb=1", 0, WORK_POST, 1},
        {"/file?kb=131073", -ERANGE, 0, 0},
        {"/cpu?iters=", -EINVAL, 0, 0},
        {"/cpu?iters=1&x", -EINVAL, 0, 0},
        {"/cpu", -ENOENT, 0, 0},
        {"", -ENOENT, 0, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct work work = {0};

        assert_int_equal(
            work_parse((struct slice){cases[i].target, strlen(cases[i].target)}, &work),
            cases[i].r);
        assert_int_equal(work.kind, cases[i].kind);
        assert_int_equal(work.n, cases[i].n);
    }
}

static void test_work_results(void **state)
{
    struct work work = {WORK_JSON, 3};
    struct json_object *array;
    size_t length, again;
    char *text, *other;

    assert_int_equal(work_do(&work, &text, &length), 0);
    array = json_tokener_parse(text);
    assert_int_equal(json_object_array_length(array), 3);
    json_object_put(array);
    free(text);
    /* The same work, the same answer; other work, another one. */
    work = (struct work){WORK_CPU, 1000};
    assert_int_equal(work_do(&work, &text, &length), 0);
    assert_int_equal(work_do(&work, &other, &again), 0);
    assert_string_equal(text, other);
    free(other);
    work.n++;
    assert_int_equal(work_do(&work, &other, &again), 0);
    assert_string_not_equal(text, other);
    free(text);
    free(other);
    work = (struct work){WORK_COMPRESS, 64};
    assert_int_equal(work_do(&work, &text, &length), 0);
    assert_in_range(strtoul(text, NULL, 10), 100, 64 * 1024);
    free(text);
}

static void test_mix(void **state)
{
    static const char text[] = "# weight method target\n"
                               "\n"
                               "3 GET /cpu?iters=1000\n"
                               "  1\tPOST  /post?kb=64  \n"
                               "1 HEAD /anything";
    struct mix mix = {0};
    unsigned line, counts[4] = {0};

    assert_int_equal(mix_parse(&mix, text, strlen(text), &line), 0);
    assert_int_equal(mix.n, 3);
    assert_int_equal(mix.weight, 5);
    assert_string_equal(mix.entries[0].target, "/cpu?iters=1000");
    assert_string_equal(mix.entries[1].method, "POST");
    assert_int_equal(mix.entries[1].body_bytes, 65536);
    assert_int_equal(mix.entries[2].body_bytes, 0);
    assert_int_equal(mix_add(&mix, "/post?kb=1"), 0);
    assert_string_equal(mix.entries[3].method, "POST");
    for (uint64_t i = 0; i < 600; i++)
        counts[mix_choose(&mix, i)]++;
    assert_int_equal(counts[0], 300);
    assert_int_equal(counts[1], 100);
    assert_int_equal(counts[2], 100);
    assert_int_equal(counts[3], 100);
    mix = (struct mix){0};
    assert_int_equal(mix_add_profile(&mix, "units"), 0);
    assert_int_equal(mix.n, 4);
    assert_int_equal(mix_add_profile(&mix, "web"), 0);
    assert_int_equal(mix_add_profile(&mix, "none"), -ENOENT);
}

static void test_bad_mixes(void **state)
{
    static const struct {
        const char *text;
        unsigned line;
    } cases[] = {
        {"1 GET\n", 1},          {"GET /x\n", 1},     {"\n0 GET /x\n", 2},
        {"1000001 GET /x\n", 1}, {"1 GET x\n", 1},    {"1 GET /x HTTP/1.1\n", 1},
        {"1 GETGETGE /x\n", 1},  {"1 GET /x\r\n", 1}, {"1 GET /\xff\n", 1},
    };
    char text[MIX_TARGET_MAX + 32] = "1 GET /";
    struct mix mix = {0};
    unsigned line;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        assert_int_equal(mix_parse(&mix, cases[i].text, strlen(cases[i].text), &line), -EINVAL);
        assert_int_equal(line, cases[i].line);
    }
    memset(text + strlen(text), 'x', MIX_TARGET_MAX);
    assert_int_equal(mix_parse(&mix, text, strlen(text), &line), -EINVAL);
    assert_int_equal(mix.n, 0);
    for (int i = 0; i < MIX_MAX; i++)
        assert_int_equal(mix_add(&mix, "/x"), 0);
    assert_int_equal(mix_add(&mix, "/x"), -ENOSPC);
}

/* 1 to 100000 us, each once: percentiles within a bucket's width, never below the truth. */
static void test_percentiles(void **state)
{
    static const double parts[] = {0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1};
    struct summary *summary = calloc(1, sizeof(*summary)), *all = calloc(1, sizeof(*all));
    const struct answer answer = {.status = 200};

    assert_int_equal(summary_percentile(&all->rows[0], 0.5), 0);
    for (uint64_t time_us = 1; time_us <= 100000; time_us++)
        summary_add(time_us % 2 ? summary : all, 0, &answer, time_us);
    summary_merge(all, summary);
    for (size_t i = 0; i < ELEMENTS(parts); i++) {
        uint64_t truth = (uint64_t)(parts[i] * 100000 + 0.5);

        assert_in_range(summary_percentile(&all->rows[0], parts[i]), truth, truth + truth / 63);
    }
    /* Longer than there are buckets for. */
    summary_add(all, 1, &answer, UINT64_MAX);
    assert_true(summary_percentile(&all->rows[1], 0.5) > UINT64_C(1) << 40);
    free(summary);
    free(all);
}

static uint64_t get(struct json_object *object, const char *key)
{
    struct json_object *value;

    assert_true(json_object_object_get_ex(object, key, &value));
    return json_object_get_uint64(value);
}

static void test_summary(void **state)
{
    struct answer answer = {.status = 200, .body_bytes = 10, .has_energy = true, .energy_uj = 100};
    struct summary *summary = calloc(1, sizeof(*summary));
    struct json_object *object, *row, *energy, *mean;
    struct mix mix = {0};
    char *text;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    assert_int_equal(mix_add(&mix, "/a"), 0);
    assert_int_equal(mix_add(&mix, "/b"), 0);
    summary_add(summary, 0, &answer, 5);
    answer.energy_uj = 201;
    summary_add(summary, 0, &answer, 7);
    answer.status = 500;
    answer.has_energy = false;
    summary_add(summary, 0, &answer, 9);
    answer.energy_wrong = true;
    summary_add(summary, 1, &answer, 9);
    assert_int_equal(summary_print(stream, summary, &mix, 2000000000), 0);
    fclose(stream);
    object = json_tokener_parse(text);
    assert_non_null(object);
    assert_int_equal(get(object, "answers_per_second"), 2);
    assert_true(json_object_object_get_ex(object, "paths", &row));
    row = json_object_array_get_idx(row, 0);
    assert_int_equal(get(row, "answers"), 3);
    assert_int_equal(get(row, "not_2xx"), 1);
    assert_int_equal(get(row, "body_bytes"), 30);
    assert_true(json_object_object_get_ex(row, "energy_score", &energy));
    assert_int_equal(get(energy, "answers"), 2);
    assert_int_equal(get(energy, "missing"), 1);
    assert_int_equal(get(energy, "sum_uj"), 301);
    assert_int_equal(get(energy, "min_uj"), 100);
    assert_int_equal(get(energy, "max_uj"), 201);
    assert_true(json_object_object_get_ex(energy, "mean_uj", &mean));
    assert_true(json_object_get_double(mean) == 150.5);
    assert_true(json_object_object_get_ex(object, "all", &row));
    assert_int_equal(get(row, "answers"), 4);
    assert_true(json_object_object_get_ex(row, "energy_score", &energy));
    assert_int_equal(get(energy, "wrong"), 1);
    json_object_put(object);
    free(text);
    free(summary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_targets), cmocka_unit_test(test_work_results),
        cmocka_unit_test(test_mix),          cmocka_unit_test(test_bad_mixes),
        cmocka_unit_test(test_percentiles),  cmocka_unit_test(test_summary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
