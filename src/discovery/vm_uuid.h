/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The UUID of a VM, derived where the VM was started without one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/process.h"

/** The name spaces of derived UUIDs. */
struct vm_uuid_spaces {
    uuid_t machine; /* this installation: for VMs with an id or a name */
    uuid_t boot;    /* this boot: for VMs that only PID and start time tell apart */
};

/** What libvirt knows of the processes of its domains. */
struct vm_domains {
    /** Whether the process is the one that libvirt runs for the domain of that UUID. */
    bool (*have)(const struct vm_domains *domains, const uuid_t uuid,
                 const struct process *process);
};

/** Whether two are QEMU processes of one owner with the same id, name and UUID. */
bool is_same_vm(const struct process *a, const struct process *b);

/**
 * Gives every QEMU process without a UUID its VM's. Where several claim one UUID,
 * which is logged, it is given to libvirt's, else it stays with the oldest.
 * @param processes  sorted by PID, each PID once
 * @param domains    NULL: libvirt is not asked
 * @return 0 or -ENOMEM, the processes are then unchanged
 */
int vm_uuids_assign(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n,
                    const struct vm_domains *domains);
