/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The names in by-name/: those of the snapshot's VMs, as file names.
 */

#include <sys/types.h>

#include "ledger/snapshot.h"

/** A single, harmless file name, NUL included. */
typedef char tree_name[VM_NAME_MAX];

/** The names of one snapshot's VMs. Zero-initialised means empty. */
struct tree_names {
    tree_name *names; /* by position in the snapshot's vms; "" for a VM without a tree */
    uint32_t *order;  /* n positions, sorted by name */
    size_t n;
};

/** @return 0 or -ENOMEM */
int tree_names_init(struct tree_names *ret, const struct snapshot *snapshot);
void tree_names_deinit(struct tree_names *names);

/** Position in the snapshot's vms of the VM with that file name, or -ENOENT. O(log n) */
ssize_t tree_names_find(const struct tree_names *names, const char *name);
