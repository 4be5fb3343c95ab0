/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** Which socket each CPU sits in. */
struct topology {
    size_t n_cpus;
    uint8_t *socket; /* by CPU number: physical package id, 0 .. sockets_max - 1 */
};

/**
 * Reads <sysfs_root>/devices/system/cpu/cpuN/topology/physical_package_id of
 * the CPUs 0 to n_cpus - 1. A CPU that is missing, offline, or without a
 * package (-1 in some VMs) counts to socket 0; so does, with a warning, one
 * whose id is not below sockets_max.
 * @return 0 or -ENOMEM
 */
int topology_read(struct topology *ret, const char *sysfs_root, size_t n_cpus,
                  unsigned sockets_max);

void topology_deinit(struct topology *topology);
