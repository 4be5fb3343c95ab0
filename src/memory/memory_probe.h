/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Reads the memory of one VM, from the sources that memory.h lists.
 */

#include <stdbool.h>
#include <stdint.h>

#include "host/topology.h"
#include "usage/usage.h"

/** A cgroup hierarchy. */
struct memory_hierarchy {
    const char *controller; /* of cgroup v1; "" for v2 */
    const char *directory;  /* below the sysfs root */
};

/** The open directories and cgroup hierarchies to read from. */
struct memory_probe {
    int proc_fd;
    int sysfs_fd; /* -1 where there is none */
    struct memory_hierarchy memory;
    struct memory_hierarchy hugetlb;
    const struct topology *topology;
};

/** What is known about one VM. */
struct vm_memory {
    const struct vm *vm;
    char *scope;                      /* its group below the sysfs root, or NULL */
    char *huge_scope;                 /* the same for huge pages */
    bool scope_shared;                /* another VM is in the same scope: neither is read from it */
    bool has_huge;                    /* its QEMU maps huge pages */
    bool walk_due;                    /* the placement must be read again */
    uint64_t walk_ns;                 /* CPU time of the last walk over its page tables, or 0 */
    uint64_t walk_bytes;              /* bytes mapped then, without huge pages */
    uint64_t helper_bytes;            /* of helpers that are not in the scope */
    uint64_t placement[PACKAGES_MAX]; /* proportions from the page tables; all 0: not known */
    uint64_t bytes[PACKAGES_MAX];     /* the result */
};

/** @param ret  the caller sets its topology. @return 0 or a negative errno */
int memory_probe_open(struct memory_probe *ret, const char *proc_root, const char *sysfs_root);
void memory_probe_close(struct memory_probe *source);

/** Forgets everything except the VM. */
void vm_memory_reset(struct vm_memory *memory);

/** Finds the VM's scopes, and reads its helpers' memory, which hardly changes. */
void memory_probe_examine(const struct memory_probe *source, struct vm_memory *memory);

/**
 * Reads the VM's memory. A value that cannot be read stays as it was.
 * @param usage  the VM's CPU time, or NULL; places memory that has no other placement
 * @param walk   whether page tables may be walked, if a walk should take less
 *               than 250 ms: QEMU cannot change its address space meanwhile
 * @return CPU time of that walk, nanoseconds; 0 without one
 */
uint64_t memory_probe_read(const struct memory_probe *source, struct vm_memory *memory,
                           const struct usage_amount *usage, bool walk);

/** Adds the memory in use on the host, VMs included, to ret[socket]. */
void memory_probe_read_host(const struct memory_probe *source, uint64_t ret[PACKAGES_MAX]);
