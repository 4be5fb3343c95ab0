/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "host/mounts.h"
#include "util/cleanup.h"
#include "util/file.h"

static const char mountinfo[] =
    "22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
    "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
    "222 28 0:44 / /run/virt\\040joule/v\\134ms ro,nosuid - fuse.virtjoule virt\\011joule ro\n"
    "223 28 0:45 / /run/virt\\040joule/v\\134ms ro,nosuid - fuse.virtjoule virtjoule ro\n"
    "31 28 0:29 /sub /a shared:2 master:3 propagate_from:1 - tmpfs tmp-fs rw,size=1k\n"
    "40 28 0:30 / /odd\\1349\\13404 rw - tmpfs \\134777 rw\n"
    "41 28 0:31 /broken\n"
    "42 28 0:31 / /b rw - fuse\n"
    "garbage\n"
    "\n"
    "43 28 0:31 / /last rw - xfs /dev/sdb rw";

/* Opens a text as a process' list of mounts. */
static int open_text(struct mounts *ret, const char *text, size_t length)
{
    char path[] = "/tmp/test-mounts-XXXXXX";
    int fd = mkstemp(path), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
    close(fd);
    r = mounts_open(ret, path);
    unlink(path);
    return r;
}

/* All lines that are of the form, one after the other. */
static void test_lines(void **state)
{
    static const struct {
        int id;
        unsigned major, minor;
        const char *root, *path, *type, *source;
    } cases[] = {
        {22, 0, 21, "/", "/proc", "proc", "proc"},
        {28, 254, 1, "/", "/", "ext4", "/dev/vda1"},
        {222, 0, 44, "/", "/run/virt joule/v\\ms", "fuse.virtjoule", "virt\tjoule"},
        {223, 0, 45, "/", "/run/virt joule/v\\ms", "fuse.virtjoule", "virtjoule"},
        {31, 0, 29, "/sub", "/a", "tmpfs", "tmp-fs"},
        {40, 0, 30, "/", "/odd\\9\\04", "tmpfs", "\\777"},
        {43, 0, 31, "/", "/last", "xfs", "/dev/sdb"},
    };
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;

    assert_int_equal(open_text(&mounts, mountinfo, sizeof(mountinfo) - 1), 0);
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        assert_true(mounts_next(&mounts, &mount));
        assert_int_equal(mount.id, cases[i].id);
        assert_int_equal(mount.device, makedev(cases[i].major, cases[i].minor));
        assert_string_equal(mount.root, cases[i].root);
        assert_string_equal(mount.path, cases[i].path);
        assert_string_equal(mount.type, cases[i].type);
        assert_string_equal(mount.source, cases[i].source);
    }
    assert_false(mounts_next(&mounts, &mount));
}

static void test_cut(void **state)
{
    for (size_t length = 0; length < sizeof(mountinfo); length++) {
        _cleanup_(mounts_close) struct mounts mounts = {0};
        struct mount_entry mount = {0};
        unsigned n = 0;

        assert_int_equal(open_text(&mounts, mountinfo, length), 0);
        while (mounts_next(&mounts, &mount))
            n++;
        assert_true(n <= 7);
        if (length == sizeof(mountinfo) - 1)
            assert_int_equal(mount.id, 43);
    }
}

static void test_long(void **state)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;
    char text[9000];
    int length = snprintf(text, sizeof(text), "5 1 0:1 / /%08000d rw - tmpfs %0900d rw\n", 0, 0);

    assert_int_equal(open_text(&mounts, text, (size_t)length), 0);
    assert_true(mounts_next(&mounts, &mount));
    assert_int_equal(strlen(mount.path), sizeof(mount.path) - 1);
    assert_string_equal(mount.type, "tmpfs");
    assert_int_equal(strlen(mount.source), sizeof(mount.source) - 1);
}

/* More mounts than a namespace may have (fs.mount-max), and a list beyond the bound. */
static void test_many(void **state)
{
    static const char line[] = "5 1 0:1 / /run/containers/0123456789 rw - tmpfs tmpfs rw\n";
    const size_t n = 100000, n_too_many = (16 << 20) / (sizeof(line) - 1) + 1;
    _cleanup_free_ char *text = malloc(n_too_many * (sizeof(line) - 1));
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;
    size_t found = 0;

    assert_non_null(text);
    for (size_t i = 0; i < n_too_many; i++)
        memcpy(text + i * (sizeof(line) - 1), line, sizeof(line) - 1);
    assert_int_equal(open_text(&mounts, text, n * (sizeof(line) - 1)), 0);
    while (mounts_next(&mounts, &mount))
        found++;
    assert_int_equal(found, n);
    mounts_close(&mounts);
    assert_int_equal(open_text(&mounts, text, n_too_many * (sizeof(line) - 1)), -E2BIG);
    assert_null(mounts.table);
}

static void test_own(void **state)
{
    struct mount_entry mount;
    struct stat st;
    dev_t device;

    assert_int_equal(mount_find_at("/proc", &mount), 0);
    assert_string_equal(mount.type, "proc");
    assert_string_equal(mount.path, "/proc");
    assert_int_equal(stat("/proc", &st), 0);
    assert_int_equal(mount.device, st.st_dev);
    assert_int_equal(mount_device("/proc/self/", &device), 0);
    assert_int_equal(device, st.st_dev);
    assert_int_equal(mount_find_type("proc", &mount), 0);
    assert_string_equal(mount.path, "/proc");

    assert_int_equal(mount_find_type("no such type", &mount), -ENOENT);
    assert_int_equal(mount_find_at("/proc/sys", &mount) == -ENODATA ||
                         strcmp(mount.path, "/proc/sys") == 0,
                     true);
    assert_int_equal(mount_find_at("/proc/self", &mount), -ENOTDIR); /* a link */
    assert_int_equal(mount_find_at("/proc/version", &mount), -ENOTDIR);
    assert_int_equal(mount_find_at("/nonexistent", &mount), -ENOENT);
    assert_int_equal(mount_device("/nonexistent", &device), -ENOENT);
}

/* Which mount an open file is in; and a path that has a link anywhere is not opened. */
static void test_open_file(void **state)
{
    struct mount_entry mount;
    int fd = open_without_links("/proc/sys/kernel");

    assert_true(fd >= 0);
    assert_int_equal(mount_find_of(fd, &mount), 0);
    assert_string_equal(mount.type, "proc");
    close(fd);
    assert_int_equal(mount_find_of(-1, &mount), -EBADF);
    assert_int_equal(open_without_links("/proc/self"), -ELOOP);
    assert_int_equal(open_without_links("/proc/self/fd"), -ELOOP);
    assert_int_equal(open_without_links("/nonexistent"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_cut), cmocka_unit_test(test_long),
        cmocka_unit_test(test_many),  cmocka_unit_test(test_own), cmocka_unit_test(test_open_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
