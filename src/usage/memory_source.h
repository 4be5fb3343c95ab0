/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The memory of one VM, read from where the host tells it (memory.h).
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

/** Where the host tells it. */
struct memory_source {
    int proc_fd;
    int sysfs_fd; /* -1 where there is none */
    struct memory_hierarchy memory;
    struct memory_hierarchy hugetlb;
    const struct topology *topology;
};

/** What is remembered of a VM. */
struct vm_memory {
    const struct vm *vm;
    char *scope;                      /* its group below the sysfs root, or NULL */
    char *huge_scope;                 /* the same for huge pages */
    bool scope_shared;                /* with another VM: then neither is read from it */
    bool has_huge;                    /* its QEMU maps huge pages */
    bool walk_due;                    /* its placement is to be read again */
    uint64_t walk_ns;                 /* CPU time of the last walk over its page tables, or 0 */
    uint64_t walk_bytes;              /* what was mapped then, huge pages aside */
    uint64_t helper_bytes;            /* of helpers that are not in the scope */
    uint64_t placement[PACKAGES_MAX]; /* proportions from the page tables; all 0: not known */
    uint64_t bytes[PACKAGES_MAX];     /* the result */
};

/** @param ret  its topology is the caller's to set. @return 0 or a negative errno */
int memory_source_open(struct memory_source *ret, const char *proc_root, const char *sysfs_root);
void memory_source_close(struct memory_source *source);

/** Forgets all but the VM. */
void vm_memory_reset(struct vm_memory *memory);

/** Finds out where the VM's memory is told, and reads what hardly changes: its helpers. */
void memory_source_examine(const struct memory_source *source, struct vm_memory *memory);

/**
 * Reads the VM's memory. What cannot be read keeps its value.
 * @param usage  the VM's CPU time, or NULL; places what nothing else places
 * @param walk   page tables may be walked, if that is expected to take less
 *               than 250 ms: QEMU cannot change its address space meanwhile
 * @return CPU time of that walk, nanoseconds; 0 without one
 */
uint64_t memory_source_read(const struct memory_source *source, struct vm_memory *memory,
                            const struct usage_amount *usage, bool walk);

/** Adds the memory in use on the host, VMs included, to ret[socket]. */
void memory_source_read_host(const struct memory_source *source, uint64_t ret[PACKAGES_MAX]);
