/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/empty_share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/macros.h"
#include "util/paths.h"

/* The top directories of a tree. */
static const char *const parts[] = {"class", "devices", "virtjoule"};

/* Looks at what the kernel knows: a server that hangs is not asked. @return 0 or a negative errno
 */
static int look_at(int dir_fd, const char *path, struct statx *ret)
{
    return statx(dir_fd, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
                 STATX_TYPE | STATX_INO, ret) < 0
               ? -errno
               : 0;
}

static bool is_mount(const struct statx *found)
{
    return found->stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static bool is_same_file_system(const struct statx *a, const struct statx *b)
{
    return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

/* @param resolve  restrictions beside that on links @return a descriptor or a negative errno */
static int open_directory(int dir_fd, const char *path, uint64_t resolve)
{
    const struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | resolve,
    };
    long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

/* Makes the directories that are missing. @return a descriptor or a negative errno */
static int open_or_make(const char *path)
{
    int fd = open_directory(AT_FDCWD, "/", 0);
    char names[PATH_MAX], *rest = names;

    snprintf(names, sizeof(names), "%s", path);
    for (const char *name; fd >= 0 && (name = strsep(&rest, "/"));) {
        int parent = fd;

        if (!*name)
            continue;
        mkdirat(parent, name, 0755); /* it may be there */
        fd = open_directory(parent, name, 0);
        close(parent);
    }
    return fd;
}

/* The tmpfs, made where there is none. Its mounts are shared wherever the first of them is. */
static int open_shares(void)
{
    int fd = open_or_make(EMPTY_SHARES_DIRECTORY);
    struct statx found;

    if (fd < 0 || (look_at(AT_FDCWD, EMPTY_SHARES_DIRECTORY, &found) == 0 && is_mount(&found)))
        return fd;
    close(fd);
    if (mount("virtjoule-empty", EMPTY_SHARES_DIRECTORY, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=0755") < 0 ||
        mount(NULL, EMPTY_SHARES_DIRECTORY, NULL, MS_SHARED, NULL) < 0)
        return -errno;
    return open_directory(AT_FDCWD, EMPTY_SHARES_DIRECTORY, 0);
}

/* Takes down whatever was mounted over an empty directory. */
static void drain_part(int share_fd, const char *part)
{
    char path[PATH_MAX];
    struct statx found;

    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", share_fd, part);
    while (look_at(share_fd, part, &found) == 0 && is_mount(&found))
        if (umount2(path, MNT_DETACH) < 0)
            return;
}

static void drain(int share_fd)
{
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        drain_part(share_fd, parts[i]);
}

bool empty_shares_cover(const char *mountpoint)
{
    struct statx shares, found;

    return look_at(AT_FDCWD, EMPTY_SHARES_DIRECTORY, &shares) == 0 && is_mount(&shares) &&
           look_at(AT_FDCWD, mountpoint, &found) == 0 && is_mount(&found) &&
           is_same_file_system(&shares, &found);
}

void empty_shares_uncover(const char *mountpoint)
{
    while (empty_shares_cover(mountpoint))
        if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return;
}

/* Guests must not write to the host's memory. */
static int cover(const char *mountpoint)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    _cleanup_close_ int place_fd = open_or_make(mountpoint);
    _cleanup_close_ int fd =
        open_tree(AT_FDCWD, EMPTY_SHARES_DIRECTORY, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (place_fd < 0)
        return place_fd;
    if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0 ||
        move_mount(fd, "", place_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

int empty_share_make(const char *mountpoint, const char *uuid)
{
    _cleanup_close_ int shares_fd = open_shares();
    _cleanup_close_ int fd = -1;

    if (shares_fd < 0)
        return shares_fd;
    mkdirat(shares_fd, uuid, 0755);
    fd = open_directory(shares_fd, uuid, 0);
    if (fd < 0)
        return fd;
    drain(fd);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (mkdirat(fd, parts[i], 0755) < 0 && errno != EEXIST)
            return -errno;
    return empty_shares_cover(mountpoint) ? 0 : cover(mountpoint);
}

/* @param ret_shares_fd  the directory that it is in @return a descriptor or a negative errno */
static int open_share(const char *uuid, int *ret_shares_fd)
{
    *ret_shares_fd = open_directory(AT_FDCWD, EMPTY_SHARES_DIRECTORY, 0);
    return *ret_shares_fd < 0 ? *ret_shares_fd : open_directory(*ret_shares_fd, uuid, 0);
}

bool empty_share_exists(const char *uuid)
{
    _cleanup_close_ int shares_fd = -1;
    _cleanup_close_ int fd = open_share(uuid, &shares_fd);

    return fd >= 0;
}

void empty_share_remove(const char *uuid)
{
    _cleanup_close_ int shares_fd = -1;
    _cleanup_close_ int fd = open_share(uuid, &shares_fd);

    if (fd < 0)
        return;
    drain(fd);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        unlinkat(fd, parts[i], AT_REMOVEDIR);
    unlinkat(shares_fd, uuid, AT_REMOVEDIR);
}

/* Nothing but the file system that is mounted on the mount point is passed on: its server may be
 * taken over. */
static void fill_part(int share_fd, int tree_fd, const char *part)
{
    _cleanup_close_ int from_fd = open_directory(tree_fd, part, RESOLVE_NO_XDEV);
    _cleanup_close_ int mount_fd = -1;
    _cleanup_close_ int to_fd = -1;
    struct statx from, to;

    if (from_fd < 0 || look_at(tree_fd, part, &from) < 0 || look_at(share_fd, part, &to) < 0 ||
        (is_mount(&to) && is_same_file_system(&from, &to)))
        return;
    drain_part(share_fd, part);
    to_fd = open_directory(share_fd, part, 0);
    mount_fd = open_tree(from_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (to_fd >= 0 && mount_fd >= 0)
        move_mount(mount_fd, "", to_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static void fill(int share_fd, const char *name, int mountpoint_fd)
{
    _cleanup_close_ int tree_fd = open_directory(mountpoint_fd, name, RESOLVE_NO_XDEV);

    for (size_t i = 0; tree_fd >= 0 && i < ARRAY_SIZE(parts); i++)
        fill_part(share_fd, tree_fd, parts[i]);
}

/* Calls a function for every empty share. */
static void for_each_share(void (*function)(int share_fd, const char *name, int argument),
                           int argument)
{
    _cleanup_closedir_ DIR *directory = opendir(EMPTY_SHARES_DIRECTORY);
    const struct dirent *entry;

    while (directory && (entry = readdir(directory))) {
        _cleanup_close_ int fd =
            entry->d_name[0] == '.' ? -1 : open_directory(dirfd(directory), entry->d_name, 0);

        if (fd >= 0)
            function(fd, entry->d_name, argument);
    }
}

void empty_shares_fill(const char *mountpoint)
{
    _cleanup_close_ int fd = -1;
    struct statx found;

    empty_shares_uncover(mountpoint);
    fd = open_directory(AT_FDCWD, mountpoint, 0);
    if (fd >= 0 && look_at(AT_FDCWD, mountpoint, &found) == 0 && is_mount(&found))
        for_each_share(fill, fd);
}

static void drain_share(int share_fd, const char *name, int argument)
{
    drain(share_fd);
}

void empty_shares_drain(void)
{
    for_each_share(drain_share, -1);
}
