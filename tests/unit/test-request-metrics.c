/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "requests/request_metrics.h"

static void add(struct request_metrics *metrics, const char *method, const char *target,
                uint16_t status, uint64_t energy_uj)
{
    struct request_record request = {
        .energy_uj = energy_uj,
        .status = status,
        .method_length = (uint8_t)strlen(method),
        .path_length = (uint8_t)strlen(target),
    };

    memcpy(request.method, method, strlen(method));
    memcpy(request.path, target, strlen(target));
    request_metrics_add(metrics, &request);
}

static char *render(struct request_metrics *metrics)
{
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    assert_non_null(stream);
    assert_int_equal(request_metrics_render(stream, metrics), 0);
    fclose(stream);
    return text;
}

static void assert_line(const char *text, const char *line)
{
    char whole[512];

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("no line: %s\nin:\n%s", line, text);
}

#define LABELS "method=\"GET\",status=\"2xx\",route=\"/cpu\""

static void test_histogram(void **state)
{
    struct request_metrics *metrics = request_metrics_new();
    char *text;

    add(metrics, "GET", "/cpu?iters=1", 200, 10);
    add(metrics, "GET", "/cpu?iters=2", 204, 11);
    add(metrics, "GET", "/cpu", 299, 40000000);
    add(metrics, "GET", "/cpu", 503, 0);
    add(metrics, "BREW", "*", 0, 1000001);
    text = render(metrics);
    assert_line(text, "# TYPE virtjoule_request_energy_joules histogram");
    assert_line(text, "virtjoule_request_energy_joules_bucket{" LABELS ",le=\"1e-05\"} 1");
    assert_line(text, "virtjoule_request_energy_joules_bucket{" LABELS ",le=\"3e-05\"} 2");
    assert_line(text, "virtjoule_request_energy_joules_bucket{" LABELS ",le=\"30\"} 2");
    assert_line(text, "virtjoule_request_energy_joules_bucket{" LABELS ",le=\"+Inf\"} 3");
    assert_line(text, "virtjoule_request_energy_joules_sum{" LABELS "} 40.000021");
    assert_line(text, "virtjoule_request_energy_joules_count{" LABELS "} 3");
    assert_line(text, "virtjoule_request_energy_joules_count{method=\"GET\",status=\"5xx\","
                      "route=\"/cpu\"} 1");
    assert_line(text, "virtjoule_request_energy_joules_sum{method=\"other\",status=\"none\","
                      "route=\"other\"} 1.000001");
    free(text);
    assert_null(request_metrics_free(metrics));
    assert_null(request_metrics_free(NULL));
}

static void test_sums(void **state)
{
    struct request_metrics *metrics = request_metrics_new();
    char *text = render(metrics);

    assert_null(strstr(text, "bound_ratio 0"));
    assert_line(text, "virtjoule_request_background_joules_total 0.000000");
    free(text);
    request_metrics_set_sums(metrics, &(struct request_sums){.background_uj = 1500001,
                                                             .bound_work = 3,
                                                             .work = 4,
                                                             .missed = 5,
                                                             .log_lines_dropped = 7});
    text = render(metrics);
    assert_line(text, "virtjoule_request_background_joules_total 1.500001");
    assert_line(text, "virtjoule_request_bound_ratio 0.750000");
    assert_line(text, "virtjoule_request_missed_total 5");
    assert_line(text, "virtjoule_request_log_lines_dropped_total 7");
    free(text);
    request_metrics_free(metrics);
}

static void test_route(void **state)
{
    static const struct {
        const char *target, *route;
    } cases[] = {
        {"/", "/"},
        {"/index.html", "/index.html"},
        {"/a/b/c", "/a/b/c"},
        {"/a/b/c/", "/a/b/c/…"},
        {"/a/b/c/d", "/a/b/c/…"},
        {"/users/4711/posts", "/users/*/posts"},
        {"/v1/x#y", "/*/x"},
        {"/x?y=/1/2", "/x"},
        {"/a//b", "/a//b"},
        {"*", "other"},
        {"", "other"},
        {"?", "other"},
        {"http://host/x", "other"},
        {"/aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg/x", "/…"},
    };
    char route[REQUEST_ROUTE_MAX], longest[RECORD_PATH_MAX];

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        request_route(cases[i].target, strlen(cases[i].target), route);
        assert_string_equal(route, cases[i].route);
    }
    for (size_t n = 0; n <= sizeof(longest); n++) {
        memset(longest, 'a', sizeof(longest));
        longest[0] = '/';
        if (n < sizeof(longest))
            longest[n] = '/';
        request_route(longest, sizeof(longest), route);
        assert_true(strlen(route) < REQUEST_ROUTE_MAX);
    }
}

/* Whatever clients send, the number of series ends; nothing is lost. */
static void test_bounded(void **state)
{
    struct request_metrics *metrics = request_metrics_new();
    uint64_t count = 0, n_series = 0;
    char *text, *rest = NULL;
    unsigned seed = 1;

    for (int i = 0; i < 20000; i++) {
        char target[16] = "/", method[8];

        for (int c = 1; c < 8; c++)
            target[c] = (char)('a' + rand_r(&seed) % 26);
        snprintf(method, sizeof(method), "M%d", rand_r(&seed) % 100);
        add(metrics, i % 2 ? "GET" : method, target, (uint16_t)(rand_r(&seed) % 1000), 1);
    }
    text = render(metrics);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "virtjoule_request_energy_joules_count{", 38) != 0)
            continue;
        n_series++;
        count += strtoull(strrchr(line, ' '), NULL, 10);
    }
    assert_int_equal(count, 20000);
    assert_true(n_series > REQUEST_SERIES_MAX && n_series <= REQUEST_SERIES_MAX + 60);
    free(text);
    request_metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
