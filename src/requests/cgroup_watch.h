/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Following the requests of a cgroup that may appear late, vanish and return.
 *
 *     configured name --(each check)--> directory --(when it is a new one)--> request_programs
 */

#include <limits.h>
#include <sys/types.h>

#include "requests/request_programs.h"

/** One cgroup of the configuration. */
struct cgroup_watch {
    const char *name;    /* its path or its unit's name; not owned */
    int link;            /* of request_programs_watch(), or -1 */
    ino_t inode;         /* of the watched directory */
    char path[PATH_MAX]; /* of the watched directory */
    int error;           /* the last that was logged, or 0 */
};

/** @param name  must outlive the watch */
void cgroup_watch_init(struct cgroup_watch *watch, const char *name);

/**
 * Begins to watch the cgroup if it is there, and ends when it has gone; logs what
 * changed.
 * @param root  the cgroup2 mount
 */
void cgroup_watch_check(struct cgroup_watch *watch, struct request_programs *programs,
                        const char *root);

/** Ends the watch; requests that have begun are followed to their end. */
void cgroup_watch_end(struct cgroup_watch *watch);
