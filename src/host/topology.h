/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which socket each CPU and each NUMA node belongs to, and which CPUs share a core.
 */

#include <stddef.h>
#include <stdint.h>

/** A NUMA node. A socket may have several (sub-NUMA clustering). */
struct topology_node {
    unsigned number; /* as in nodeN; numbers may skip */
    uint8_t socket;  /* of its CPUs; of the nearest node with CPUs where it has none */
};

struct topology {
    size_t n_cpus;
    uint8_t *socket;             /* by CPU number: physical package id, 0 .. sockets_max - 1 */
    int16_t *sibling;            /* by CPU number: the other thread of its core, or -1; with more
                                    than two: the next one, cyclic */
    struct topology_node *nodes; /* sorted by number; at least one */
    size_t n_nodes;
};

/**
 * Reads, below <sysfs_root>/devices/system, of the CPUs 0 to n_cpus - 1
 * cpu/cpuN/topology/{physical_package_id,thread_siblings_list}, and of all
 * nodes node/nodeN/{cpulist,distance}.
 *
 * A CPU that is missing, offline, or without a package (-1 in some VMs) counts
 * to socket 0 and has no sibling; so does, with a warning, the socket of one
 * whose id is not below sockets_max. A node without CPUs (CXL, HBM) belongs to
 * the socket of the nearest node that has some. Without any node directory
 * there is one node 0 on socket 0.
 *
 * sysfs tells of CPUs and nodes that are online: who owns a topology reads it
 * again when the set of CPUs online has changed (/proc/stat shows it).
 * @param ret  is overwritten, not released
 * @return 0 or -ENOMEM; ret is then untouched
 */
int topology_read(struct topology *ret, const char *sysfs_root, size_t n_cpus,
                  unsigned sockets_max);

void topology_deinit(struct topology *topology);

/** The socket of the node with that number; 0 for a node that is not known. */
unsigned topology_node_socket(const struct topology *topology, unsigned number);
