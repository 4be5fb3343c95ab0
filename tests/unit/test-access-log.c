/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "requests/access_log.h"
#include "util/file.h"

static struct request_record make_request(const char *target, size_t length)
{
    struct request_record request = {
        .end_ns = 1738324800123456789,
        .duration_ns = 1520999,
        .cpu_ns = 900000,
        .energy_uj = 4711,
        .status = 200,
        .method_length = 3,
        .path_length = (uint8_t)length,
        .method = "GET",
    };

    memcpy(request.path, target, length);
    return request;
}

static void test_line(void **state)
{
    struct request_record request = make_request("/x/y", 4);
    char line[ACCESS_LOG_LINE_MAX];
    size_t length = access_log_format(&request, line);

    assert_int_equal(length, strlen(line));
    assert_string_equal(line, "{\"time\":\"2025-01-31T12:00:00.123456Z\",\"method\":\"GET\","
                              "\"path\":\"/x/y\",\"status\":200,\"duration_us\":1520,"
                              "\"cpu_us\":900,\"energy_uj\":4711}\n");
    request.has_header = true;
    request.header_uj = 4500;
    access_log_format(&request, line);
    assert_non_null(strstr(line, "\"cpu_us\":900,\"header_uj\":4500,\"energy_uj\":4711}"));
}

static void test_escaping(void **state)
{
    static const struct {
        const char *target;
        size_t length;
        const char *escaped;
    } cases[] = {
        {"/\"\\", 3, "/\\\"\\\\"},
        {"/a\r\nb", 5, "/a\\u000d\\u000ab"},
        {"/\0x", 3, "/\\u0000x"},
        {"\x1b[2J\x7f", 5, "\\u001b[2J\\u007f"},
        {"caf\xc3\xa9", 5, "caf\xc3\xa9"},
        {"\xc2\x9b", 2, "\\u009b"},
        {"\xff\xc3", 2, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"%s%n", 4, "%s%n"},
        {"", 0, ""},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct request_record request = make_request(cases[i].target, cases[i].length);
        char line[ACCESS_LOG_LINE_MAX], expected[128];

        access_log_format(&request, line);
        snprintf(expected, sizeof(expected), "\"path\":\"%s\",\"status\"", cases[i].escaped);
        if (!strstr(line, expected))
            fail_msg("no %s in %s", expected, line);
    }
}

/* The longest line of the worst bytes fits, and any bytes make one line of valid JSON. */
static void test_any_bytes(void **state)
{
    unsigned seed = 1;

    for (int run = 0; run < 2000; run++) {
        struct request_record request = {
            .end_ns = UINT64_MAX,
            .duration_ns = UINT64_MAX,
            .cpu_ns = UINT64_MAX,
            .energy_uj = UINT64_MAX,
            .status = UINT16_MAX,
            .method_length = RECORD_METHOD_MAX,
            .path_length = RECORD_PATH_MAX,
            .header_uj = UINT64_MAX,
            .has_header = true,
        };
        char line[ACCESS_LOG_LINE_MAX];
        struct json_object *object;
        size_t length;

        memset(request.method, 1, sizeof(request.method));
        memset(request.path, 1, sizeof(request.path));
        for (size_t i = 0; run > 0 && i < sizeof(request.path); i++)
            request.path[i] = (char)rand_r(&seed);
        length = access_log_format(&request, line);
        assert_true(length < ACCESS_LOG_LINE_MAX);
        assert_int_equal(length, strlen(line));
        assert_ptr_equal(strchr(line, '\n'), line + length - 1);
        object = json_tokener_parse(line);
        assert_non_null(object);
        json_object_put(object);
    }
}

static char *path_in(const char *root, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/log", root);
    return path;
}

static size_t count_lines(const char *path)
{
    char text[8192];
    size_t n = 0;

    assert_true(read_file(AT_FDCWD, path, text, sizeof(text)) >= 0);
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

static void test_rotation(void **state)
{
    struct request_record request = make_request("/", 1);
    char path[PATH_MAX], old[PATH_MAX + 2];
    struct access_log *log = NULL;
    struct stat status;

    assert_int_equal(access_log_new(&log, path_in(*state, path), 0), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    access_log_add(log, &request);
    assert_int_equal(count_lines(path), 0); /* held back */
    access_log_flush(log);
    assert_int_equal(count_lines(path), 1);
    access_log_add(log, &request);
    snprintf(old, sizeof(old), "%s.1", path);
    assert_int_equal(rename(path, old), 0);
    access_log_reopen(log);
    assert_int_equal(count_lines(old), 2);
    access_log_add(log, &request);
    assert_null(access_log_free(log));
    assert_int_equal(count_lines(path), 1);
    assert_int_equal(count_lines(old), 2);
    assert_null(access_log_free(NULL));
}

/* A full file takes no more, and says how many it did not take; after a rotation it does. */
static void test_limit(void **state)
{
    struct request_record request = make_request("/", 1);
    char path[PATH_MAX], line[ACCESS_LOG_LINE_MAX];
    size_t length = access_log_format(&request, line);
    struct access_log *log = NULL;

    fixture_write(*state, "before\n", "log");
    assert_int_equal(access_log_new(&log, path_in(*state, path), 7 + 2 * length), 0);
    for (int i = 0; i < 5; i++)
        access_log_add(log, &request);
    access_log_flush(log);
    assert_int_equal(count_lines(path), 3);
    assert_int_equal(access_log_dropped(log), 3);
    assert_int_equal(unlink(path), 0);
    access_log_reopen(log);
    access_log_add(log, &request);
    access_log_flush(log);
    assert_int_equal(count_lines(path), 1);
    assert_int_equal(access_log_dropped(log), 3);
    access_log_free(log);
}

/* A full disk, a directory that is not there. */
static void test_failures(void **state)
{
    struct request_record request = make_request("/", 1);
    struct access_log *log = NULL;

    assert_int_equal(access_log_new(&log, "/nonexistent/log", 0), -ENOENT);
    assert_int_equal(access_log_new(&log, "/dev/full", 0), 0);
    access_log_add(log, &request);
    access_log_add(log, &request);
    access_log_flush(log);
    assert_int_equal(access_log_dropped(log), 2);
    access_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test_setup_teardown(test_rotation, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_limit, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
