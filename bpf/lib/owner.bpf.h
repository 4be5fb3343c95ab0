/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Whose tasks may be VMs: those of the owners that user space trusts. No other task is
 * listed for its name, so it costs no record, no room in a map, and no look of user space.
 */

#include "lib/kernel.h"
#include "shared/vm_usage.h"

/* Set before loading. */
const volatile __u32 n_trusted_owners = 0; /* 0: all owners are trusted */
const volatile __u32 trusted_owners[VM_USAGE_OWNERS_MAX];

static bool owner_is_listed(__u32 uid)
{
    for (unsigned i = 0; i < VM_USAGE_OWNERS_MAX && i < n_trusted_owners; i++)
        if (trusted_owners[i] == uid)
            return true;
    return false;
}

/* Of the host's first user name space, whatever the task's own one calls them. */
static bool owner_is_trusted(struct task_struct *task)
{
    const struct cred *cred = task->real_cred;

    return n_trusted_owners == 0 ||
           (owner_is_listed(cred->uid.val) && owner_is_listed(cred->euid.val) &&
            owner_is_listed(cred->suid.val));
}
