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
 * the CPUs 0 to n_cpus - 1. The kernel tells it of CPUs that are online. Another
 * stays where it was known to be, on socket 0 at first; so does one without a
 * package (-1 in some VMs) and, with a warning, one whose id is not below
 * sockets_max.
 * @param topology  zeros, or what was read before; it never shrinks
 * @return 0 or -ENOMEM, then nothing has changed
 */
int topology_read(struct topology *topology, const char *sysfs_root, size_t n_cpus,
                  unsigned sockets_max);

void topology_deinit(struct topology *topology);
