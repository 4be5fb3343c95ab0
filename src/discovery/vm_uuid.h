/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The UUID of a VM, also of one that was started without.
 */

#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/process.h"

/** The name spaces of derived UUIDs. */
struct vm_uuid_spaces {
    uuid_t machine; /* this installation: for what is named by people */
    uuid_t boot;    /* this boot: for what is told apart by PID and start time only */
};

/**
 * Gives every QEMU process without a UUID its VM's.
 * @param processes  sorted by PID, each PID once
 * @return 0 or -ENOMEM, the processes are then as they were
 */
int vm_uuids_assign(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n);
