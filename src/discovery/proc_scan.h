/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "discovery/vm.h"
#include "discovery/vm_uuid.h"

/** Finds VMs among the host's processes, and remembers the facts about each process. */
struct proc_scan;

/**
 * @param proc_root  "/proc", or a tree of its form
 * @return 0, or a negative errno where proc_root cannot be opened
 */
int proc_scan_new(const char *proc_root, const struct vm_uuid_spaces *spaces,
                  struct proc_scan **ret);

/** Frees the scan; NULL is accepted. @return NULL */
struct proc_scan *proc_scan_free(struct proc_scan *scan);

/**
 * Examines processes.
 * @param changes  the processes to examine; other processes of VMs are unchanged
 * @return 1: the VMs may be others than before; 0: they are the same; or a negative errno
 *         (out of memory, directory unreadable), the known facts then stay
 */
int proc_scan_refresh(struct proc_scan *scan, const struct process_changes *changes);

/**
 * The VMs that had a living QEMU process at the last refresh.
 * @return 0 or -ENOMEM
 */
int proc_scan_list_vms(const struct proc_scan *scan, struct vm_table *ret);
