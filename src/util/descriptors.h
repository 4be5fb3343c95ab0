/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Descriptors that outlive the process in the service manager's store, and
 * sockets that the service manager listens on.
 *
 *     descriptors_keep() --FDSTORE=1--> service manager --LISTEN_FDS, LISTEN_FDNAMES-->
 *         descriptors_take(), once, in the next process --(by name)--> descriptors_next()
 *
 * Several may have one name. A descriptor that no module asks for is closed,
 * and stays in the service manager's store.
 */

#include <stddef.h>

/** What the service manager handed over at the start. Zero-initialised: none. */
struct descriptors {
    size_t n;
    struct descriptor {
        int fd; /* -1: given away */
        char *name;
    } * list;
};

/**
 * Takes over all of them, close-on-exec. To be called once per process: it
 * removes the variables that list them from the environment.
 * @return 0 or -ENOMEM, then all are closed
 */
int descriptors_take(struct descriptors *ret);

/** Closes those that were not given away. */
void descriptors_deinit(struct descriptors *descriptors);

/**
 * Gives away the next one of that name.
 * @param descriptors  NULL: none
 * @return the caller's, or -1: there is no more
 */
int descriptors_next(struct descriptors *descriptors, const char *name);

/**
 * Hands descriptors to the service manager, in one message: it keeps all of
 * them or none. It keeps them also when they hang up: a service manager that
 * polled them (FDPOLL=1) would drop a FUSE connection that was unmounted, and
 * the next process could not report why.
 * @param fds  n of them; the caller's own, which it may close
 * @return 0, -ENOTCONN without a service manager, or another negative errno
 */
int descriptors_keep(const char *name, const int *fds, unsigned n);

/** Has the service manager close all that it stores under that name. */
void descriptors_forget(const char *name);
