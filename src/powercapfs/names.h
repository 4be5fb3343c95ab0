/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The names in by-name/. Tenants name their VMs, so a VM's name may hold any
 * bytes; each name here is a single, unique and harmless file name.
 */

#include <limits.h>
#include <sys/types.h>

#include "ledger/snapshot.h"

/** A file name, NUL included. */
typedef char tree_name[NAME_MAX + 1];

/**
 * Makes a file name of a VM's name: '/', control bytes, a leading '.', and
 * bytes that are not UTF-8 turn into '_', an empty name too; longer ones are
 * cut between characters. A name that ends like a collision name ("@" and a
 * UUID) has that '@' replaced, so that no VM can pose as another.
 */
void tree_name_sanitise(const char *name, tree_name ret);

/** The names of one snapshot's VMs. Zero-initialised means empty. */
struct tree_names {
    tree_name *names; /* by position in the snapshot's vms; "" for a VM without a tree */
    uint32_t *order;  /* n positions, sorted by name */
    size_t n;
};

/**
 * Where several VMs have the same file name, the first by UUID gets it, and
 * the others get "<name>@<uuid>".
 * @return 0 or -ENOMEM
 */
int tree_names_init(struct tree_names *ret, const struct snapshot *snapshot);
void tree_names_deinit(struct tree_names *names);

/** Position in the snapshot's vms of the VM with that file name, or -ENOENT. O(log n) */
ssize_t tree_names_find(const struct tree_names *names, const char *name);
