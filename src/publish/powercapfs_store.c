/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/powercapfs_store.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "publish/powercapfs_mount.h"
#include "util/cleanup.h"
#include "util/log.h"

#define STORE_NAME "powercapfs"
#define BARRIER_USEC UINT64_C(5000000)
/* Linux Documentation/admin-guide/devices.txt: misc device, minor 229. */
#define FUSE_DEVICE makedev(10, 229)
/* enum fuse_notify_code of Linux 6.9, which older headers lack. */
#define NOTIFY_RESEND 7

static bool is_fuse_device(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == FUSE_DEVICE;
}

static bool has_event(int fd, short event)
{
    struct pollfd pollfd = {.fd = fd};

    return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & event);
}

static bool is_init(const char *request, size_t length)
{
    struct fuse_in_header header;

    if (length < sizeof(header) + offsetof(struct fuse_init_in, flags2))
        return false;
    memcpy(&header, request, sizeof(header));
    return header.opcode == FUSE_INIT && header.len == length;
}

/* @return why the connection cannot be continued, or NULL */
static const char *check(int fuse_fd, int init_fd, const char *mountpoint,
                         struct kept_connection *ret)
{
    ssize_t n;

    if (fuse_fd < 0)
        return "no connection among the descriptors";
    n = recv(init_fd, ret->init, sizeof(ret->init), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 || !is_init(ret->init, (size_t)n))
        return "no FUSE_INIT request among the descriptors";
    if (has_event(fuse_fd, POLLERR))
        return "it was unmounted";
    if (!mountpoint_is_ours(mountpoint))
        return "it is not mounted here";
    ret->init_length = (size_t)n;
    return NULL;
}

/* Picks the two descriptors and closes all others. @return how many there were */
static int receive(int *ret_fuse_fd, int *ret_init_fd)
{
    char **names = NULL;
    int n = sd_listen_fds_with_names(true, &names);

    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        bool ours = strcmp(names[i], STORE_NAME) == 0;

        if (ours && *ret_fuse_fd < 0 && is_fuse_device(fd))
            *ret_fuse_fd = fd;
        else if (ours && *ret_init_fd < 0 && sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) > 0)
            *ret_init_fd = fd;
        else
            close(fd);
        free(names[i]);
    }
    free(names);
    return n;
}

bool kept_connection_take(const char *mountpoint, struct kept_connection *ret)
{
    int fuse_fd = -1;
    _cleanup_close_ int init_fd = -1;
    const char *problem;

    if (receive(&fuse_fd, &init_fd) <= 0)
        return false;
    problem = check(fuse_fd, init_fd, mountpoint, ret);
    if (!problem) {
        ret->fd = fuse_fd;
        return true;
    }
    log_warning("the former daemon's connection cannot be continued, a new one is made",
                F_STRING("path", mountpoint), F_STRING("reason", problem));
    if (fuse_fd >= 0)
        close(fuse_fd);
    sd_notify(false, "FDSTOREREMOVE=1\nFDNAME=" STORE_NAME);
    /* As long as somebody holds the connection, a look at its mount waits for an answer. */
    sd_notify_barrier(false, BARRIER_USEC);
    return false;
}

void kept_connection_resend(const struct kept_connection *connection)
{
    const struct fuse_out_header header = {.len = sizeof(header), .error = NOTIFY_RESEND};

    if (write(connection->fd, &header, sizeof(header)) < 0)
        log_info("this kernel cannot resend requests that a killed daemon had taken",
                 F_ERROR(errno));
}

int connection_keep(int fuse_fd, const void *init, size_t length)
{
    int sockets[2], r;

    if (length > FUSE_INIT_MAX)
        return -E2BIG;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    r = send(sockets[0], init, length, MSG_DONTWAIT) < 0 ? -errno : 0;
    /* Not to be polled: a connection that was unmounted is told from one that was never there. */
    if (r == 0)
        r = sd_pid_notify_with_fds(0, false, "FDSTORE=1\nFDPOLL=0\nFDNAME=" STORE_NAME,
                                   (const int[]){fuse_fd, sockets[1]}, 2);
    close(sockets[1]);
    if (r > 0)
        return sockets[0];
    close(sockets[0]);
    return r < 0 ? r : -ENOTCONN;
}

void connection_drop(int keep_fd)
{
    if (keep_fd < 0)
        return;
    close(keep_fd);
    sd_notify(false, "FDSTOREREMOVE=1\nFDNAME=" STORE_NAME);
}

bool connection_is_kept(int keep_fd)
{
    /* One that does not keep it may not have come to close it yet. */
    if (keep_fd >= 0)
        sd_notify_barrier(false, BARRIER_USEC);
    return keep_fd >= 0 && !has_event(keep_fd, POLLHUP);
}
