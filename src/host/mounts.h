/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What is mounted where, as the kernel lists it. No function here sends a
 * request to a mounted file system: one whose server is dead or hangs would
 * not answer.
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/** A line of /proc/PID/mountinfo; longer texts are cut. */
struct mount_entry {
    int id;              /* the kernel's number of the mount */
    dev_t device;        /* of the file system: one for each connection to a FUSE server */
    char root[PATH_MAX]; /* which directory of the file system is mounted */
    char path[PATH_MAX]; /* the mount point */
    char type[64];
    char source[256];
};

/** The mounts that a process sees. Zero-initialised: none. */
struct mounts {
    struct libmnt_table *table;
    struct libmnt_iter *position;
};

/**
 * Reads a list of mounts; lines that are not of the form are passed over.
 * @param file  "/proc/self/mountinfo"
 * @return 0; -E2BIG for more than 16 MiB; or another negative errno. ret is
 *         untouched then
 */
int mounts_open(struct mounts *ret, const char *file);

/** Takes the next mount, in the order of the file. @return false at the end */
bool mounts_next(struct mounts *mounts, struct mount_entry *ret);

void mounts_close(struct mounts *mounts);

/**
 * The uppermost mount on a directory.
 * @return 0; -ENODATA when nothing is mounted there; -ENOENT or -ENOTDIR for
 *         the path, also where it is a link; -ESRCH for a mount that this
 *         process' list does not have; or another negative errno
 */
int mount_find_at(const char *path, struct mount_entry *ret);

/**
 * The mount that an open file is in.
 * @param fd  may be of O_PATH
 * @return 0; -ESRCH for a mount that this process' list does not have; or another
 *         negative errno
 */
int mount_find_of(int fd, struct mount_entry *ret);

/**
 * The first mount of a type that this process sees.
 * @param type  "cgroup2"
 * @return 0, -ENOENT or another negative errno
 */
int mount_find_type(const char *type, struct mount_entry *ret);

/**
 * The file system that a directory is in.
 * @return 0, or a negative errno, such as -ENOENT
 */
int mount_device(const char *path, dev_t *ret);
