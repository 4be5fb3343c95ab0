/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "requests/cgroup.h"

static void test_names(void **state)
{
    static const char *const units[] = {"nginx.service",           "app@1.service", "web.slice",
                                        "dev-disk\\x2dby.service", "a.scope",       "a.socket"};
    static const char *const no_units[] = {"",          "nginx",   ".service", "a/b.service",
                                           "a b.slice", "x.mount", "..",       "a\n.service"};
    static const char *const paths[] = {"/sys/fs/cgroup/x", "/", "/a/..b", "/a/b.."};
    static const char *const no_paths[] = {"", "x", "/..", "/a/../b", "/a/.."};
    char longest[300];

    for (size_t i = 0; i < ELEMENTS(units); i++)
        assert_true(cgroup_is_unit(units[i]) && !cgroup_is_path(units[i]));
    for (size_t i = 0; i < ELEMENTS(no_units); i++)
        assert_false(cgroup_is_unit(no_units[i]));
    for (size_t i = 0; i < ELEMENTS(paths); i++)
        assert_true(cgroup_is_path(paths[i]) && !cgroup_is_unit(paths[i]));
    for (size_t i = 0; i < ELEMENTS(no_paths); i++)
        assert_false(cgroup_is_path(no_paths[i]));
    memset(longest, 'a', sizeof(longest));
    longest[0] = '/';
    strcpy(longest + 250, ".service");
    assert_false(cgroup_is_path(longest) || cgroup_is_unit(longest + 1));
}

static void assert_found(const char *root, const char *name, const char *expected)
{
    char path[PATH_MAX], full[PATH_MAX];

    assert_int_equal(cgroup_find(root, name, path, sizeof(path)), 0);
    snprintf(full, sizeof(full), "%s/%s", root, expected);
    assert_string_equal(path, full);
}

static void test_find(void **state)
{
    static const char *const files[] = {
        "system.slice/nginx.service/cgroup.procs",
        "system.slice/system-app.slice/app@1.service/cgroup.procs",
        "system.slice/docker.service/inner.service/cgroup.procs",
    };
    char path[PATH_MAX], full[PATH_MAX], small[8];

    for (size_t i = 0; i < ELEMENTS(files); i++)
        fixture_write(*state, "", "%s", files[i]);
    assert_found(*state, "nginx.service", "system.slice/nginx.service");
    assert_found(*state, "app@1.service", "system.slice/system-app.slice/app@1.service");
    assert_found(*state, "system-app.slice", "system.slice/system-app.slice");
    /* What a service calls its own cgroups is no unit. */
    assert_int_equal(cgroup_find(*state, "inner.service", path, sizeof(path)), -ENOENT);
    assert_int_equal(cgroup_find(*state, "none.service", path, sizeof(path)), -ENOENT);
    assert_int_equal(cgroup_find("/nonexistent", "a.service", path, sizeof(path)), -ENOENT);
    snprintf(full, sizeof(full), "%s/system.slice", (char *)*state);
    assert_int_equal(cgroup_find(*state, full, path, sizeof(path)), 0);
    assert_string_equal(path, full);
    assert_int_equal(cgroup_find(*state, full, small, sizeof(small)), -ENAMETOOLONG);
    strcat(full, "/nginx.service/cgroup.procs");
    assert_int_equal(cgroup_find(*state, full, path, sizeof(path)), -ENOTDIR);
    fixture_remove(*state, "system.slice/nginx.service");
    assert_int_equal(cgroup_find(*state, "nginx.service", path, sizeof(path)), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_find, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
