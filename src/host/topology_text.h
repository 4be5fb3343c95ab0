/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Parsers of sysfs texts on CPUs and NUMA nodes: pure functions over a buffer.
 * All return 0, or -EBADMSG for a text that is not of the kernel's form or was
 * cut, and leave the output untouched then.
 */

#include <stdbool.h>
#include <stddef.h>

/**
 * A list of CPUs, "0-3,8-11"; "" on a node that has none.
 * @param ret_listed  by CPU number: whether the list names it; CPUs not below
 *                    n_cpus are left out
 */
int parse_cpulist(const char *text, size_t length, bool *ret_listed, size_t n_cpus);

/**
 * A node's distances, "10 21": one for each node online, in the order of their
 * numbers, the node itself included.
 * @param ret  room for max entries; further ones are an -EBADMSG
 */
int parse_node_distances(const char *text, size_t length, unsigned *ret, size_t max, size_t *ret_n);
