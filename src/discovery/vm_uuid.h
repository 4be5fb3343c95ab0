/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The UUID of a VM, derived where the VM was started without one.
 */

#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/process.h"

/** The name spaces of derived UUIDs. */
struct vm_uuid_spaces {
    uuid_t machine; /* this installation: for VMs with an id or a name */
    uuid_t boot;    /* this boot: for VMs that only PID and start time tell apart */
};

/**
 * Gives every QEMU process without a UUID its VM's.
 * @param processes  sorted by PID, each PID once
 * @return 0 or -ENOMEM, the processes are then unchanged
 */
int vm_uuids_assign(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n);
