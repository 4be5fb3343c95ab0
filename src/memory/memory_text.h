/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Parsers of kernel texts with memory per NUMA node: pure functions over a
 * buffer. All add bytes to nodes[number of the node]; nodes not below n_nodes
 * are left out. All return 0, or -EBADMSG for a text that is not of the
 * kernel's form or was cut; the contents of nodes are then undefined.
 */

#include <stddef.h>
#include <stdint.h>

/**
 * memory.numa_stat of cgroup v2: anonymous memory, and shared memory or mapped
 * files. file_mapped holds the mapped part of shmem, so the larger one is taken.
 */
int parse_cgroup2_numa_stat(const char *text, size_t length, uint64_t *nodes, size_t n_nodes);

/**
 * memory.numa_stat of cgroup v1, in pages: hierarchical_anon, in which v1 counts
 * shared memory as well, and hierarchical_unevictable, which holds locked memory.
 */
int parse_cgroup1_numa_stat(const char *text, size_t length, uint64_t page_size, uint64_t *nodes,
                            size_t n_nodes);

/** hugetlb.SIZE.numa_stat of cgroup v1 or v2, children included. */
int parse_hugetlb_numa_stat(const char *text, size_t length, uint64_t *nodes, size_t n_nodes);

/** /proc/PID/numa_maps: all mapped pages; huge pages (hugetlbfs) apart from the others. */
int parse_numa_maps(const char *text, size_t length, uint64_t *nodes, uint64_t *huge_nodes,
                    size_t n_nodes);
