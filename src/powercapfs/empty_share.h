/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The share of a VM that starts while no daemon answers: empty directories where its tree will be.
 *
 *     /run/virtjoule-empty       a tmpfs, shared with all mounts that are made of it
 *       UUID/class, devices, virtjoule
 *     MOUNTPOINT                 covered with a read-only mount of the same tmpfs
 *
 * virtiofsd serves MOUNTPOINT/UUID from a mount namespace of its own, to which the kernel passes on
 * what is mounted below /run/virtjoule-empty. So the share is filled when the daemon is there:
 * its tree's directories are mounted over the empty ones, and emptied before its mount goes.
 *
 * All of it is for root. No link is followed, whoever made it, and nothing here waits for
 * whoever serves the mount point, but for empty_shares_fill().
 */

#include <stdbool.h>

/**
 * Makes the empty share MOUNTPOINT/UUID, whatever is mounted on the mount point.
 * @param uuid  the text of a UUID, nothing else
 * @return 0 or a negative errno
 */
int empty_share_make(const char *mountpoint, const char *uuid);

/** Whether a VM has, or had, an empty share since it started. */
bool empty_share_exists(const char *uuid);

/** Removes what empty_share_make() made for a VM that has ended. Does nothing where there is none.
 */
void empty_share_remove(const char *uuid);

/** Whether the mount point shows the empty shares instead of the trees. */
bool empty_shares_cover(const char *mountpoint);

/** Shows again what the empty shares cover. The VMs that have them keep them. */
void empty_shares_uncover(const char *mountpoint);

/** Gives the empty shares their trees, once the daemon serves the mount. Waits for its answers. */
void empty_shares_fill(const char *mountpoint);

/** Takes the trees out again before their mount goes: an empty directory is read without an error.
 */
void empty_shares_drain(void);
