/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "util/file.h"

static void assert_content(const char *path, const char *content)
{
    size_t length;
    char *text;

    assert_int_equal(read_file_full(AT_FDCWD, path, 4096, &text, &length), 0);
    assert_string_equal(text, content);
    free(text);
}

static void test_replace_file(void **state)
{
    char path[4096], temporary[4200];

    snprintf(path, sizeof(path), "%s/a/b/file", (const char *)*state);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    assert_int_equal(replace_file(path, "first", 5, 0644), 0);
    assert_content(path, "first");
    assert_int_equal(replace_file(path, "2", 1, 0644), 0);
    assert_content(path, "2");
    assert_int_equal(access(temporary, F_OK), -1);
}

/* What is there stays when it cannot be replaced. */
static void test_replace_fails(void **state)
{
    char path[4096];

    fixture_write(*state, "old", "file");
    fixture_write(*state, "", "file.new/in-the-way");
    snprintf(path, sizeof(path), "%s/file", (const char *)*state);
    assert_int_equal(replace_file(path, "new", 3, 0644), -EISDIR);
    assert_content(path, "old");
    snprintf(path, sizeof(path), "%s/file/below", (const char *)*state);
    assert_int_equal(replace_file(path, "new", 3, 0644), -ENOTDIR);
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(replace_file(path, "new", 3, 0644), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replace_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_replace_fails, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
