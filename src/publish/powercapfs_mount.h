/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The directory that powercapfs is mounted on.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POWERCAPFS_TYPE "fuse.virtjoule"

/** What is used of a line of /proc/self/mountinfo; longer texts are cut. */
struct mount_entry {
    char device[32];     /* MAJOR:MINOR: one for each connection to a FUSE server */
    char root[PATH_MAX]; /* which directory of the file system is mounted */
    char path[PATH_MAX]; /* the mount point */
    char type[64];
    char source[256];
};

/**
 * Finds a mount by its id in the text of /proc/self/mountinfo.
 * @return 0, -ENOENT, or -EBADMSG when that mount's line is not of the form
 */
int mountinfo_find(const char *text, size_t length, uint64_t mount_id, struct mount_entry *ret);

/**
 * Takes the next line of /proc/PID/mountinfo; those not of the form are passed over.
 * @param text, length  moved behind the line
 * @return false at the end
 */
bool mountinfo_next(const char **text, size_t *length, struct mount_entry *ret);

/**
 * What is mounted on the path. Asks nothing of the mount itself.
 * @return 0; -ENODATA when nothing is mounted there; -ENOENT, -ENOTDIR for
 *         the path; or another negative errno
 */
int mountpoint_find(const char *path, struct mount_entry *ret);

/** Is one of our mounts on the path, alive or dead? Asks nothing of the mount itself. */
bool mountpoint_is_ours(const char *path);

/**
 * Makes the directory where it is missing, takes down dead powercapfs mounts
 * on it, and makes sure that it is an empty directory with nothing mounted
 * on it.
 * @return 0, -ENOTDIR, -ENOTEMPTY, -EBUSY, or another negative errno; the
 *         reason is logged
 */
int mountpoint_prepare(const char *path);
