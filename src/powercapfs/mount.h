/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The directory that powercapfs is mounted on.
 */

#include <stdbool.h>
#include <sys/types.h>

#define POWERCAPFS_TYPE "fuse.virtjoule"

/* What the operator does about VMs whose virtiofsd serves a mount that is gone. */
#define DEAD_SHARE_CURE                                                                            \
    "detach and attach the shares of VMs that run (virtjoule detach, attach), or shut these VMs "  \
    "down and start them"

/**
 * Is one of our mounts on the path, alive or dead, here or in the mount
 * namespace of PID 1? (A sandbox may hide it from us.) Sends no request to the
 * mount itself.
 */
bool mountpoint_is_ours(const char *path);

/**
 * Is one of our mounts on the path, and is it served, or kept for the next
 * process to serve? Takes a tenth of a second where no process serves it.
 */
bool mountpoint_is_alive(const char *path);

/**
 * Asks for all attributes of the top directory, which the kernel then caches
 * for as long as it is mounted; waits until the mount is served.
 * @return 0 or a negative errno
 */
int mountpoint_introduce(const char *path);

/**
 * Has a child process look at the mount. The child waits for as long as no
 * process serves the mount; its exit status is 1 if the mount is dead.
 * @param ret_pidfd  readable when the child has its answer; the caller's
 * @return the child's PID, to be waited for, or a negative errno
 */
pid_t mountpoint_ask(const char *path, int *ret_pidfd);

/** Takes down all our mounts on the path, alive or dead. @return 0 or a negative errno, logged */
int mountpoint_release(const char *path);

/**
 * Makes a second mount of the file system on a path. The second mount is on no
 * path itself: as long as its descriptor is open, unmounting the path does not
 * end the file system.
 * @return a descriptor for mount_put_back(), or a negative errno
 */
int mount_spare(const char *path);

/** Moves a spare mount to the path. @return as mountpoint_prepare(), which it calls first */
int mount_put_back(int spare_fd, const char *path);

/**
 * Makes the directory where it is missing, takes down dead powercapfs mounts
 * on it, and makes sure that it is an empty directory with nothing mounted
 * on it.
 * @return 0, -ENOTDIR, -ENOTEMPTY, -EBUSY, or another negative errno; the
 *         reason is logged
 */
int mountpoint_prepare(const char *path);
