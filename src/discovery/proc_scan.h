/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "discovery/vm.h"
#include "discovery/vm_uuid.h"

/** Finds VMs among the host's processes, and remembers the facts about each process. */
struct proc_scan;

struct proc_scan_config {
    const char *proc_root; /* "/proc", or a tree of its form */
    struct vm_uuid_spaces spaces;
    struct trusted_owners owners;
    unsigned untrusted_vms; /* how many QEMU processes of each other owner are VMs */
    unsigned vcpus_max;     /* of a VM whose vCPUs cannot be counted by its threads: 1 or more */
};

/** @return 0, or a negative errno where proc_root cannot be opened */
int proc_scan_new(const struct proc_scan_config *config, struct proc_scan **ret);

/** Frees the scan; NULL is accepted. @return NULL */
struct proc_scan *proc_scan_free(struct proc_scan *scan);

/**
 * Examines processes.
 * @param changes  the processes to examine; other processes of VMs are unchanged
 * @param domains  what libvirt knows, for a UUID that several processes claim
 * @return 1: the VMs may be others than before; 0: they are the same, as far as processes and not
 *         domains decide; or a negative errno (out of memory, directory unreadable), the known
 *         facts then stay
 */
int proc_scan_refresh(struct proc_scan *scan, const struct process_changes *changes,
                      const struct vm_domains *domains);

/**
 * The VMs that had a living QEMU process at the last refresh.
 * @return 0 or -ENOMEM
 */
int proc_scan_list_vms(struct proc_scan *scan, struct vm_table *ret);
