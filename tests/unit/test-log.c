/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

/* What is written to standard error between the two calls. */
static int saved_stderr, pipe_fd;

static void capture_start(void)
{
    int fds[2];

    fflush(stderr);
    assert_int_equal(pipe(fds), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    pipe_fd = fds[0];
}

static const char *capture_end(void)
{
    static char text[8192];
    ssize_t length;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    length = read(pipe_fd, text, sizeof(text) - 1);
    close(pipe_fd);
    text[length > 0 ? length : 0] = '\0';
    return text;
}

static void test_fields(void **state)
{
    unsetenv("JOURNAL_STREAM");
    capture_start();
    log_warning("zone unreadable", F_STRING("zone", "core"), F_INT("a", -5),
                F_UINT("b", UINT64_MAX), F_ERROR(-EACCES), F_STRING("empty", ""),
                F_STRING("null", NULL));
    assert_string_equal(capture_end(),
                        "warning: zone unreadable zone=core a=-5 b=18446744073709551615 "
                        "error=\"Permission denied\" empty=\"\" null=\"\"\n");
}

static void test_values_cannot_forge(void **state)
{
    unsetenv("JOURNAL_STREAM");
    capture_start();
    log_info("VM found", F_STRING("name", "a\nerror: all is lost zone=x \"\\\x7f"));
    assert_string_equal(capture_end(), "info: VM found name=\"a\\x0aerror: all is lost zone=x "
                                       "\\\"\\\\\\x7f\"\n");
}

static void test_long_values_are_cut(void **state)
{
    char value[5000];
    const char *line;

    memset(value, 'x', sizeof(value));
    value[sizeof(value) - 1] = '\0';
    unsetenv("JOURNAL_STREAM");
    capture_start();
    log_info("long", F_STRING("value", value));
    line = capture_end();
    assert_int_equal(strlen(line), 2048);
    assert_int_equal(line[2047], '\n');
}

static void test_priorities_for_the_journal(void **state)
{
    setenv("JOURNAL_STREAM", "8:1", 1);
    capture_start();
    log_error("one");
    log_debug("two");
    assert_string_equal(capture_end(), "<3>one\n");
    unsetenv("JOURNAL_STREAM");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_values_cannot_forge),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_priorities_for_the_journal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
