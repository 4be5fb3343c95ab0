/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The socket of each CPU and of each NUMA node, and the CPUs that share a core.
 */

#include <stddef.h>
#include <stdint.h>

/** A NUMA node. A socket may have several (sub-NUMA clustering). */
struct topology_node {
    unsigned number; /* as in nodeN; numbers may skip */
    uint8_t socket;  /* that of its CPUs; without CPUs, that of the nearest node with CPUs */
};

struct topology {
    size_t n_cpus;
    uint8_t *socket;             /* by CPU number: physical package id, 0 .. sockets_max - 1 */
    int16_t *sibling;            /* by CPU number: the other thread of its core, or -1; of more than
                                    two threads the next one, cyclic */
    struct topology_node *nodes; /* sorted by number; at least one */
    size_t n_nodes;
};

/**
 * Reads, below sysfs_root/devices/system, the files
 * cpu/cpuN/topology/{physical_package_id,thread_siblings_list} of the CPUs 0 to
 * n_cpus - 1, and node/nodeN/{cpulist,distance} of all nodes.
 *
 * A CPU that is missing, offline, or without a package (-1 in some VMs) counts
 * to socket 0 and has no sibling. A CPU whose socket's id is not below
 * sockets_max counts to socket 0 as well, with a warning. A node without CPUs
 * (CXL, HBM) belongs to the socket of the nearest node with CPUs. Without any
 * node directory there is one node 0 on socket 0.
 *
 * sysfs lists only CPUs and nodes that are online: the owner of a topology
 * reads it again when the set of online CPUs has changed (see /proc/stat).
 * @param ret  is overwritten, not released
 * @return 0 or -ENOMEM; ret is then untouched
 */
int topology_read(struct topology *ret, const char *sysfs_root, size_t n_cpus,
                  unsigned sockets_max);

void topology_deinit(struct topology *topology);

/** The socket of the node with that number; 0 for an unknown node. */
unsigned topology_node_socket(const struct topology *topology, unsigned number);
