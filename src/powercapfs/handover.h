/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The FUSE connection in the service manager's descriptor store, where it
 * outlives the daemon: a guest that reads meanwhile waits, and sees no error.
 *
 *     /dev/fuse, FUSE_INIT, requests --FDSTORE=1--> service manager --LISTEN_FDS--> next daemon
 *
 * Three descriptors go there in one message, so that none can be without or of
 * another mount than the others: the connection, a socket in which the
 * kernel's FUSE_INIT request waits, and the memory in which requests lie until
 * they are answered (powercapfs_queue). The kernel sends FUSE_INIT once per
 * mount; libfuse must see it to speak the version and the features agreed on.
 * Every successor only peeks at it, which leaves it for the next.
 *
 * A service manager does not tell whether it keeps what it is sent. The other
 * end of the socket does: it hangs up once nobody holds the first.
 */

#include <stdbool.h>
#include <stddef.h>

#include "util/descriptors.h"

#define FUSE_INIT_MAX 512 /* bytes; version 7.38 has 104 */

/** The connection of a daemon that is gone. */
struct kept_connection {
    int fd;        /* of /dev/fuse */
    int memory_fd; /* the request queue's */
    size_t init_length;
    char init[FUSE_INIT_MAX]; /* the request as the kernel sent it */
};

/** Is it one FUSE_INIT request with all that libfuse reads of it? @param request  any bytes */
bool fuse_init_is_whole(const char *request, size_t length);

/**
 * Takes the connection that the service manager hands over. One that cannot
 * serve the mount point is dropped from the store as well, so that its mount
 * is dead when this returns; the reason is logged.
 * @return true: ret is filled, its descriptors are the caller's
 */
bool kept_connection_take(struct descriptors *descriptors, const char *mountpoint,
                          struct kept_connection *ret);

/**
 * Hands a new connection to the service manager, before the kernel's FUSE_INIT
 * has been answered: from then on the process may be killed at any moment.
 * @return a descriptor for connection_is_kept(), the caller's; or -ENOTCONN
 *         without a service manager, or another negative errno
 */
int connection_keep(int fuse_fd, int memory_fd, const void *init, size_t length);

/** Has the service manager kept the connection? */
bool connection_is_kept(int keep_fd);

/** Has the service manager drop the connection, if it keeps one. */
void connection_drop(void);

/** Waits until the service manager has taken what it was sent: the sender may be gone then. */
void connection_settle(void);
