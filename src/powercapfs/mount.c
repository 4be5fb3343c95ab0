/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/mounts.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

/* A daemon that is killed again and again may leave that many dead mounts on top of each other. */
#define STACKED_MOUNTS_MAX 32
/* A dead mount answers within microseconds. */
#define ANSWER_MS 100

int mountpoint_introduce(const char *path)
{
    struct statx found;

    /* Since Linux 6.6 the time of birth has a request of its own, until that is refused. */
    return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &found) < 0
               ? -errno
               : 0;
}

pid_t mountpoint_ask(const char *path, int *ret_pidfd)
{
    struct statfs fs;
    pid_t child = fork();

    if (child < 0)
        return -errno;
    /* The kernel may answer the first from its cache; the second it has to ask the server for. */
    if (child == 0)
        _exit((mountpoint_introduce(path) < 0 || statfs(path, &fs) < 0) && errno == ENOTCONN);
    *ret_pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    return child;
}

/* No process serves the mount, and none will. */
static bool is_dead(const char *path)
{
    struct pollfd answer = {.fd = -1, .events = POLLIN};
    pid_t child = mountpoint_ask(path, &answer.fd);
    int status = 0;

    if (child < 0)
        return false;
    if (poll(&answer, 1, ANSWER_MS) > 0)
        waitpid(child, &status, 0);
    else
        kill(child, SIGKILL);
    close(answer.fd);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0;
}

/* Takes the mount on the path down if it is a dead one of ours. */
static int clear_mount(const char *path, const struct mount_entry *mount)
{
    int r;

    if (strcmp(mount->type, POWERCAPFS_TYPE) != 0 || !is_dead(path)) {
        log_error("mount point is in use", F_STRING("path", path),
                  F_STRING("mounted_on", mount->path), F_STRING("type", mount->type),
                  F_STRING("source", mount->source));
        return -EBUSY;
    }
    if (umount2(path, MNT_DETACH) < 0) {
        r = -errno;
        log_error("cannot unmount the dead mount of a killed daemon", F_STRING("path", path),
                  F_ERROR(r));
        return r;
    }
    log_warning("unmounted the dead mount of a killed daemon", F_STRING("path", path),
                F_STRING("cure", DEAD_SHARE_CURE));
    return 0;
}

static int check_empty(const char *path)
{
    _cleanup_closedir_ DIR *directory = opendir(path);
    const struct dirent *entry;
    int r;

    if (!directory) {
        r = -errno;
        log_error("cannot open the mount point", F_STRING("path", path), F_ERROR(r));
        return r;
    }
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        log_error("mount point is not empty", F_STRING("path", path),
                  F_STRING("entry", entry->d_name));
        return -ENOTEMPTY;
    }
    return 0;
}

/* Is the uppermost mount on the path one of ours? */
static bool is_ours_here(const char *path)
{
    struct mount_entry mount;

    return mount_find_at(path, &mount) == 0 && strcmp(mount.type, POWERCAPFS_TYPE) == 0;
}

static bool is_ours_on_host(const char *path)
{
    _cleanup_(mounts_close) struct mounts mounts = {0};
    struct mount_entry mount;
    char canonical[PATH_MAX];

    if (!realpath(path, canonical) || mounts_open(&mounts, "/proc/1/mountinfo") < 0)
        return false;
    while (mounts_next(&mounts, &mount))
        if (strcmp(mount.path, canonical) == 0 && strcmp(mount.type, POWERCAPFS_TYPE) == 0)
            return true;
    return false;
}

bool mountpoint_is_ours(const char *path)
{
    return is_ours_here(path) || is_ours_on_host(path);
}

bool mountpoint_is_alive(const char *path)
{
    return is_ours_here(path) && !is_dead(path);
}

int mountpoint_release(const char *path)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < STACKED_MOUNTS_MAX && is_ours_here(path); i++)
        r = umount2(path, MNT_DETACH) < 0 ? -errno : 0;
    if (r < 0)
        log_error("cannot unmount the powercap trees", F_STRING("path", path), F_ERROR(r));
    return r;
}

int mount_spare(const char *path)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int mountpoint_prepare(const char *path)
{
    struct mount_entry mount;
    int r = mount_find_at(path, &mount);

    if (r == -ENOENT) {
        r = make_directories(path, 0755);
        if (r == 0)
            r = mount_find_at(path, &mount);
    }
    for (unsigned i = 0; r == 0 && i < STACKED_MOUNTS_MAX; i++) {
        r = clear_mount(path, &mount);
        if (r < 0)
            return r;
        r = mount_find_at(path, &mount);
    }
    if (r == -ENODATA)
        return check_empty(path);
    if (r == 0)
        r = -EBUSY;
    log_error(r == -ENOTDIR ? "mount point is not a directory" : "cannot use the mount point",
              F_STRING("path", path), F_ERROR(r));
    return r;
}

int mount_put_back(int spare_fd, const char *path)
{
    int r = mountpoint_prepare(path);

    if (r < 0)
        return r;
    return move_mount(spare_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}
