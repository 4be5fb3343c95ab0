/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The FUSE connection in the service manager's descriptor store, where it
 * outlives the daemon: a guest that reads while no daemon runs waits, and sees
 * no error.
 *
 *     /dev/fuse, FUSE_INIT, queue --FDSTORE=1--> service manager --LISTEN_FDS--> next daemon
 *
 * Three descriptors go there in one message, so that none can be without the
 * others or belong to another mount: the connection, a socket in which the
 * kernel's FUSE_INIT request waits, and the memory in which requests lie until
 * they are answered (queue.h). The kernel sends FUSE_INIT once per mount;
 * libfuse must see it to speak the version and the features agreed on. Every
 * later daemon only peeks at it, which leaves it for the next.
 *
 * A service manager does not report whether it keeps the descriptors. The
 * other end of the socket shows it: it hangs up once no process holds the
 * first end.
 */

#include <stdbool.h>
#include <stddef.h>

#include "util/descriptors.h"

#define FUSE_INIT_MAX 512 /* bytes; version 7.38 has 104 */

/** The connection of a daemon that is gone. */
struct handover {
    int fd;        /* of /dev/fuse */
    int memory_fd; /* the queue's */
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
bool handover_take(struct descriptors *descriptors, const char *mountpoint, struct handover *ret);

/**
 * Hands a new connection to the service manager, before the kernel's FUSE_INIT
 * has been answered: from then on the process may be killed at any moment.
 * @return a descriptor for handover_is_kept(), the caller's; or -ENOTCONN
 *         without a service manager, or another negative errno
 */
int handover_keep(int fuse_fd, int memory_fd, const void *init, size_t length);

/** Has the service manager kept the connection? @param keep_fd  negative: it has not */
bool handover_is_kept(int keep_fd);

/** Has the service manager drop the connection, if it keeps one. */
void handover_drop(void);

/**
 * Waits until the service manager has taken what it was sent: the sender may exit then.
 * @return false: it has not within five seconds, or there are no descriptors left to ask it with
 */
bool handover_settle(void);
