/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/unix_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* A program whose queue is full is there as well: to wait for room may take for ever. */
static bool is_answered(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
                       errno == EAGAIN);
}

static int make_room(const struct sockaddr_un *address)
{
    struct stat st;

    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    if (is_answered(address))
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

/* A new file has the group of this process: a service that may not chown needs not. */
static int share_with(const char *path, gid_t group)
{
    if (group != getegid() && chown(path, (uid_t)-1, group) < 0)
        return -errno;
    return chmod(path, 0660) < 0 ? -errno : 0;
}

int unix_socket_listen(const struct sockaddr_un *address, gid_t group, int backlog)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -errno : make_room(address);

    if (r < 0)
        return r;
    /* No other user may connect between bind() and chown(). */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return -errno;
    r = group == (gid_t)-1 ? 0 : share_with(address->sun_path, group);
    if (r < 0)
        return r;
    return listen(fd, backlog) < 0 ? -errno : TAKE_FD(fd);
}
