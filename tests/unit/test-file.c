/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

static int read_state(const char *directory, const char *name, size_t max)
{
    char path[4096], *text = NULL;
    size_t length;
    int r;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    r = read_state_file(path, max, &text, &length);
    if (r == 0)
        assert_string_equal(text, "totals");
    free(text);
    return r;
}

/* What this program has not written is not read, whatever it is; above all, nothing waits. */
static void test_state_file(void **state)
{
    char path[4096];
    int fd;

    fixture_write(*state, "totals", "file");
    assert_int_equal(read_state(*state, "file", 6), 0);
    assert_int_equal(read_state(*state, "file", 5), -EFBIG);
    assert_int_equal(read_state(*state, "none", 6), -ENOENT);
    snprintf(path, sizeof(path), "%s/link", (const char *)*state);
    assert_int_equal(symlink("file", path), 0);
    assert_int_equal(read_state(*state, "link", 6), -ELOOP);
    assert_int_equal(read_state(*state, ".", 6), -EISDIR);
    snprintf(path, sizeof(path), "%s/fifo", (const char *)*state);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(read_state(*state, "fifo", 6), -EINVAL);
    snprintf(path, sizeof(path), "%s/sparse", (const char *)*state);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    close(fd);
    assert_int_equal(read_state(*state, "sparse", 1 << 20), -EFBIG);
}

/* Root alone can make another user's file. */
static void test_state_file_of_another_user(void **state)
{
    char path[4096];

    if (geteuid() != 0)
        skip();
    fixture_write(*state, "totals", "file");
    snprintf(path, sizeof(path), "%s/file", (const char *)*state);
    assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
    assert_int_equal(read_state(*state, "file", 6), -EPERM);
    /* A daemon of another user left its directory to root. */
    assert_int_equal(chown(*state, 65534, (gid_t)-1), 0);
    assert_int_equal(read_state(*state, "file", 6), 0);
}

/* The new file is never one that was left behind, or planted. */
static void test_open_beside(void **state)
{
    char path[4096], temporary[4200];
    int fd;

    fixture_write(*state, "another's", "target");
    snprintf(path, sizeof(path), "%s/file", (const char *)*state);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    assert_int_equal(symlink("target", temporary), 0);
    fd = open_beside(path, 0600, temporary, sizeof(temporary));
    assert_true(fd >= 0);
    assert_int_equal(write_file_at(fd, "new", 3, 0), 0);
    close(fd);
    snprintf(path, sizeof(path), "%s/target", (const char *)*state);
    assert_content(path, "another's");
    assert_content(temporary, "new");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replace_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_replace_fails, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_state_file, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_state_file_of_another_user, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_open_beside, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
