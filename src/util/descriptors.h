/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The descriptors that the service manager handed over at the start: what an
 * earlier daemon stored (FDSTORE=1), and sockets that it listens on for us.
 *
 *     LISTEN_FDS, LISTEN_FDNAMES --(once, at start)--> descriptors --(by name)--> who knows them
 *
 * Several may have one name. What nobody asks for is closed, and stays in the
 * service manager's store.
 */

#include <stddef.h>

/* Zero-initialised: none. */
struct descriptors {
    size_t n;
    struct descriptor {
        int fd; /* -1: given away */
        char *name;
    } * list;
};

/**
 * Takes over all of them, close-on-exec. To be called once per process: the
 * environment tells of them no more.
 * @return 0 or -ENOMEM, then all are closed
 */
int descriptors_take(struct descriptors *ret);

/** Closes those that are left. */
void descriptors_deinit(struct descriptors *descriptors);

/**
 * Gives away the next one of that name.
 * @param descriptors  NULL: none
 * @return the caller's, or -1: there is no more
 */
int descriptors_next(struct descriptors *descriptors, const char *name);

/** Tells the service manager to close all that it stores under that name. */
void descriptors_forget(const char *name);
