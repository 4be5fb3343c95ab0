/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The FUSE connection in the service manager's descriptor store, where it
 * outlives the daemon: a guest that reads meanwhile waits, and sees no error.
 *
 *     /dev/fuse, FUSE_INIT --FDSTORE=1--> service manager --LISTEN_FDS--> next daemon
 *
 * Two descriptors go there in one message, so that neither can be without or
 * of another mount than the other: the connection, and a socket in which the
 * kernel's FUSE_INIT request waits. The kernel sends that request once per
 * mount; libfuse must see it to speak the version and the features agreed on.
 * Every successor only peeks at it, which leaves it for the next.
 *
 * A service manager does not tell whether it keeps what it is sent. The other
 * end of the socket does: it hangs up once nobody holds the first.
 */

#include <stdbool.h>
#include <stddef.h>

#define FUSE_INIT_MAX 512 /* bytes; version 7.38 has 104 */

/** The connection of a daemon that is gone. */
struct kept_connection {
    int fd; /* of /dev/fuse */
    size_t init_length;
    char init[FUSE_INIT_MAX]; /* the request as the kernel sent it */
};

/** Is it one FUSE_INIT request with all that libfuse reads of it? @param request  any bytes */
bool fuse_init_is_whole(const char *request, size_t length);

/**
 * Takes the connection that the service manager hands over. One that cannot
 * serve the mount point is dropped from the store as well, so that its mount
 * is dead when this returns; the reason is logged. To be called once, before
 * any other descriptor of the service manager is of use: those are closed.
 * @return true: ret is filled, its fd the caller's
 */
bool kept_connection_take(const char *mountpoint, struct kept_connection *ret);

/**
 * Asks the kernel for the requests that the dead process had taken and not
 * answered; before any other is read. A kernel before 6.9 cannot do so: who
 * made them waits until killed.
 */
void kept_connection_resend(const struct kept_connection *connection);

/**
 * Hands a new connection to the service manager, before the kernel's FUSE_INIT
 * has been answered: from then on the process may be killed at any moment.
 * @return a descriptor for connection_is_kept(), the caller's; or -ENOTCONN
 *         without a service manager, or another negative errno
 */
int connection_keep(int fuse_fd, const void *init, size_t length);

/** Has the service manager kept the connection? */
bool connection_is_kept(int keep_fd);
