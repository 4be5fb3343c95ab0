/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/handover.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "powercapfs/mount.h"
#include "util/cleanup.h"
#include "util/log.h"

#define STORE_NAME "powercapfs"
#define BARRIER_MS 5000
/* Linux Documentation/admin-guide/devices.txt: misc device, minor 229. */
#define FUSE_DEVICE makedev(10, 229)

static bool is_fuse_device(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == FUSE_DEVICE;
}

static bool is_memory(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Is there the event, one that poll(2) always reports, within that time? */
static bool has_event(int fd, short event, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd};

    return poll(&pollfd, 1, timeout_ms) > 0 && (pollfd.revents & event);
}

bool fuse_init_is_whole(const char *request, size_t length)
{
    struct fuse_in_header header;

    if (length < sizeof(header) + offsetof(struct fuse_init_in, flags2))
        return false;
    memcpy(&header, request, sizeof(header));
    return header.opcode == FUSE_INIT && header.len == length;
}

/* Completes what receive() found. @return why the connection cannot be continued, or NULL */
static const char *complete(int init_fd, const char *mountpoint, struct handover *ret)
{
    ssize_t n;

    if (ret->fd < 0)
        return "no connection among the descriptors";
    if (ret->memory_fd < 0)
        return "no requests' memory among the descriptors";
    n = recv(init_fd, ret->init, sizeof(ret->init), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 || !fuse_init_is_whole(ret->init, (size_t)n))
        return "no FUSE_INIT request among the descriptors";
    if (has_event(ret->fd, POLLERR, 0))
        return "it was unmounted";
    if (!mountpoint_is_ours(mountpoint))
        return "it is not mounted here";
    ret->init_length = (size_t)n;
    return NULL;
}

/* Picks the connection's descriptors. @return whether there was any of the store's name */
static bool receive(struct descriptors *descriptors, struct handover *ret, int *ret_init_fd)
{
    bool any = false;

    for (int fd; (fd = descriptors_next(descriptors, STORE_NAME)) >= 0; any = true) {
        if (ret->fd < 0 && is_fuse_device(fd))
            ret->fd = fd;
        else if (ret->memory_fd < 0 && is_memory(fd))
            ret->memory_fd = fd;
        else if (*ret_init_fd < 0 && sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) > 0)
            *ret_init_fd = fd;
        else
            close(fd);
    }
    return any;
}

bool handover_take(struct descriptors *descriptors, const char *mountpoint, struct handover *ret)
{
    _cleanup_close_ int init_fd = -1;
    const char *problem;

    ret->fd = ret->memory_fd = -1;
    if (!receive(descriptors, ret, &init_fd))
        return false;
    problem = complete(init_fd, mountpoint, ret);
    if (!problem)
        return true;
    log_warning("the former daemon's connection cannot be continued, a new one is made",
                F_STRING("path", mountpoint), F_STRING("reason", problem),
                F_STRING("cure", DEAD_SHARE_CURE));
    cleanup_close(&ret->fd);
    cleanup_close(&ret->memory_fd);
    handover_drop();
    return false;
}

void handover_drop(void)
{
    descriptors_forget(STORE_NAME);
    /* As long as a process holds the connection, a look at its mount waits for an answer. */
    handover_settle();
}

bool handover_settle(void)
{
    return sd_notify_barrier(false, BARRIER_MS * UINT64_C(1000)) >= 0;
}

int handover_keep(int fuse_fd, int memory_fd, const void *init, size_t length)
{
    _cleanup_close_ int sender = -1, init_fd = -1;
    int sockets[2], r;

    if (length > FUSE_INIT_MAX)
        return -E2BIG;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    sender = sockets[0];
    init_fd = sockets[1];
    if (send(sender, init, length, MSG_DONTWAIT) < 0)
        return -errno;
    r = descriptors_keep(STORE_NAME, (const int[]){fuse_fd, init_fd, memory_fd}, 3);
    return r < 0 ? r : TAKE_FD(sender);
}

bool handover_is_kept(int keep_fd)
{
    bool settled;

    if (keep_fd < 0)
        return false;
    /* Until the service manager has processed the message, it holds the descriptors also where it
     * does not keep them. A barrier tells when it has, but takes descriptors, and this process may
     * be ending for want of some. */
    settled = handover_settle();
    return !has_event(keep_fd, POLLHUP, settled ? 0 : BARRIER_MS);
}
