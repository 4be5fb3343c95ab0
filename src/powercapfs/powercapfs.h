/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The emulated powercap trees of all VMs, as one FUSE file system.
 */

#include <stdint.h>
#include <sys/types.h>

#include "ledger/snapshot.h"
#include "util/descriptors.h"

struct powercapfs;

struct powercapfs_config {
    const char *mountpoint; /* made where it is missing; else an empty directory */
    mode_t file_mode;       /* permission bits of the files */
    uid_t file_uid;
    gid_t file_gid;
    gid_t top_gid;          /* may enter the mount, beside file_uid and root */
    uint64_t quantum_uj;    /* published values are multiples of it; 0 and 1 mean none */
    const char *version;    /* the text of virtjoule/version */
    const char *sysfs_root; /* the CPUs' packages are read below it */
};

/**
 * Mounts the file system and serves it on a thread of its own, from the
 * board's snapshots alone. A dead mount of a killed daemon is taken down
 * first; a mount that the service manager keeps alive is continued instead,
 * and files that are open in it go on.
 * @param descriptors  that the service manager handed over
 * @return 0; -ENOTEMPTY when the mount point holds files; -EBUSY when another
 *         file system, or a mount that is served, is on it; -ENOTDIR; or
 *         another negative errno. The reason is logged.
 */
int powercapfs_new(struct powercapfs **ret, const struct powercapfs_config *config,
                   struct snapshot_board *board, struct descriptors *descriptors);

/**
 * Makes the mount for the next process, which then needs no right to mount:
 * the service manager keeps the connection for it. Does nothing where a mount
 * is served or kept already.
 * @param board  with or without a snapshot
 * @return 0, -ENOTCONN when the service manager does not keep it, or as
 *         powercapfs_new(); the reason is logged
 */
int powercapfs_mount(const struct powercapfs_config *config, struct snapshot_board *board);

/**
 * Stops the thread; unmounts, unless the service manager keeps the connection
 * for the next process. NULL is accepted. @return NULL
 */
struct powercapfs *powercapfs_free(struct powercapfs *fs);

/**
 * Puts the mount back where it was unmounted by hand, and makes a new one where
 * the connection was cut (umount -f); to be called now and then. In the first
 * case, processes that hold files or directories of the mount notice nothing.
 * Failures are logged, and the attempt is repeated at growing intervals.
 */
void powercapfs_keep_mounted(struct powercapfs *fs);

/** How often files of the VM with that snapshot id have been read since the start; 0 for NULL. */
uint64_t powercapfs_reads(struct powercapfs *fs, uint32_t vm_id);

/** The CPU time that serving the VM's requests took since the previous call, by package. */
void powercapfs_take_cpu(struct powercapfs *fs, uint32_t vm_id, uint64_t ret_ns[PACKAGES_MAX]);

/** Drops the counts of a VM that will not return. */
void powercapfs_forget(struct powercapfs *fs, uint32_t vm_id);
