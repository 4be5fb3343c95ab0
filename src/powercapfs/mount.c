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
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"

/* A daemon that is killed again and again may leave that many dead mounts on top of each other. */
#define STACKED_MOUNTS_MAX 32
#define MOUNTINFO_MAX (16U << 20)
/* A dead mount answers within microseconds. */
#define ANSWER_MS 100

/* A stretch of text. */
struct span {
    const char *start;
    size_t length;
};

/* Cuts what is before the next separator off the text. @return false at the text's end */
static bool span_cut(struct span *text, char separator, struct span *ret)
{
    const char *end;

    if (text->length == 0)
        return false;
    end = memchr(text->start, separator, text->length);
    ret->start = text->start;
    ret->length = end ? (size_t)(end - text->start) : text->length;
    text->start += ret->length + (end != NULL);
    text->length -= ret->length + (end != NULL);
    return true;
}

static bool is_octal(const char *text, size_t length)
{
    if (length < 4 || text[0] != '\\' || text[1] < '0' || text[1] > '3')
        return false;
    return text[2] >= '0' && text[2] <= '7' && text[3] >= '0' && text[3] <= '7';
}

/* Copies a field; the kernel writes blanks, newlines and backslashes as \ooo. */
static void span_decode(struct span field, char *ret, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < field.length && n + 1 < size; n++) {
        const char *c = field.start + i;

        if (is_octal(c, field.length - i)) {
            ret[n] = (char)((c[1] - '0') << 6 | (c[2] - '0') << 3 | (c[3] - '0'));
            i += 4;
        } else {
            ret[n] = *c;
            i++;
        }
    }
    ret[n] = '\0';
}

/* ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER-OPTIONS */
static int parse_mount(struct span line, struct mount_entry *ret)
{
    struct span fields[6], field, type, source;

    for (unsigned i = 0; i < 6; i++)
        if (!span_cut(&line, ' ', &fields[i]))
            return -EBADMSG;
    do {
        if (!span_cut(&line, ' ', &field))
            return -EBADMSG;
    } while (field.length != 1 || *field.start != '-');
    if (!span_cut(&line, ' ', &type) || !span_cut(&line, ' ', &source))
        return -EBADMSG;
    span_decode(fields[2], ret->device, sizeof(ret->device));
    span_decode(fields[3], ret->root, sizeof(ret->root));
    span_decode(fields[4], ret->path, sizeof(ret->path));
    span_decode(type, ret->type, sizeof(ret->type));
    span_decode(source, ret->source, sizeof(ret->source));
    return 0;
}

int mountinfo_find(const char *text, size_t length, uint64_t mount_id, struct mount_entry *ret)
{
    struct span rest = {text, length}, line, field;

    while (span_cut(&rest, '\n', &line)) {
        struct span fields = line;
        uint64_t id;

        if (!span_cut(&fields, ' ', &field) || parse_u64(field.start, field.length, &id) < 0)
            continue;
        if (id == mount_id)
            return parse_mount(line, ret);
    }
    return -ENOENT;
}

bool mountinfo_next(const char **text, size_t *length, struct mount_entry *ret)
{
    struct span rest = {*text, *length}, line;
    bool found = false;

    while (!found && span_cut(&rest, '\n', &line))
        found = parse_mount(line, ret) == 0;
    *text = rest.start;
    *length = rest.length;
    return found;
}

static int read_mount(uint64_t mount_id, struct mount_entry *ret)
{
    _cleanup_free_ char *text = NULL;
    size_t length;
    int r = read_file_full(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &length);

    return r < 0 ? r : mountinfo_find(text, length, mount_id, ret);
}

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
    /* The first the kernel may know by itself, the second it has to ask. */
    if (child == 0)
        _exit((mountpoint_introduce(path) < 0 || statfs(path, &fs) < 0) && errno == ENOTCONN);
    *ret_pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    return child;
}

/* Nobody serves it, and nobody will. */
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
static int clear_mount(const char *path, uint64_t mount_id)
{
    struct mount_entry mount;
    int r = read_mount(mount_id, &mount);

    if (r < 0) {
        log_error("cannot tell what is mounted on the mount point", F_STRING("path", path),
                  F_ERROR(r));
        return r;
    }
    if (strcmp(mount.type, POWERCAPFS_TYPE) != 0 || !is_dead(path)) {
        log_error("mount point is in use", F_STRING("path", path),
                  F_STRING("mounted_on", mount.path), F_STRING("type", mount.type),
                  F_STRING("source", mount.source));
        return -EBUSY;
    }
    if (umount2(path, MNT_DETACH) < 0) {
        r = -errno;
        log_error("cannot unmount what a killed daemon left", F_STRING("path", path), F_ERROR(r));
        return r;
    }
    log_warning("unmounted what a killed daemon left", F_STRING("path", path));
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

/* Without a request to the file system, which may be one that nobody serves any more. A link is
 * refused: who may make one below the runtime directory need not be who mounts. */
static int look_at(const char *path, struct statx *ret)
{
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
              STATX_TYPE | STATX_MNT_ID, ret) < 0)
        return -errno;
    return S_ISDIR(ret->stx_mode) ? 0 : -ENOTDIR;
}

int mountpoint_find(const char *path, struct mount_entry *ret)
{
    struct statx found;
    int r = look_at(path, &found);

    if (r < 0)
        return r;
    if (!(found.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return -ENODATA;
    return read_mount(found.stx_mnt_id, ret);
}

/* On top of what else is mounted there. */
static bool is_ours_here(const char *path)
{
    struct mount_entry mount;

    return mountpoint_find(path, &mount) == 0 && strcmp(mount.type, POWERCAPFS_TYPE) == 0;
}

static bool is_ours_on_host(const char *path)
{
    char canonical[PATH_MAX];
    _cleanup_free_ char *text = NULL;
    struct mount_entry mount;
    const char *rest;
    size_t length;

    if (!realpath(path, canonical) ||
        read_file_full(AT_FDCWD, "/proc/1/mountinfo", MOUNTINFO_MAX, &text, &length) < 0)
        return false;
    rest = text;
    while (mountinfo_next(&rest, &length, &mount))
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

int mountpoint_device(const char *path, dev_t *ret)
{
    struct statx found;
    int r = look_at(path, &found);

    if (r == 0)
        *ret = makedev(found.stx_dev_major, found.stx_dev_minor);
    return r;
}

int mount_spare(const char *path)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int mountpoint_prepare(const char *path)
{
    struct statx found;
    int r = look_at(path, &found);

    if (r == -ENOENT) {
        r = make_directories(path, 0755);
        if (r == 0)
            r = look_at(path, &found);
    }
    for (unsigned i = 0; r == 0 && i < STACKED_MOUNTS_MAX; i++) {
        if (!(found.stx_attributes & STATX_ATTR_MOUNT_ROOT))
            return check_empty(path);
        r = clear_mount(path, found.stx_mnt_id);
        if (r < 0)
            return r;
        r = look_at(path, &found);
    }
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
