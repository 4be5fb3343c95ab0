/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/file.h"
#include "util/log.h"

static int grow(struct topology *topology, size_t n_cpus)
{
    uint8_t *socket;

    if (n_cpus <= topology->n_cpus)
        return 0;
    socket = realloc(topology->socket, n_cpus);
    if (!socket)
        return -ENOMEM;
    memset(socket + topology->n_cpus, 0, n_cpus - topology->n_cpus);
    topology->socket = socket;
    topology->n_cpus = n_cpus;
    return 0;
}

int topology_read(struct topology *topology, const char *sysfs_root, size_t n_cpus,
                  unsigned sockets_max)
{
    int r = grow(topology, n_cpus);

    if (r < 0)
        return r;
    for (size_t cpu = 0; cpu < n_cpus; cpu++) {
        char path[4096];
        uint64_t id;

        snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%zu/topology/physical_package_id",
                 sysfs_root, cpu);
        if (read_sysfs_u64(AT_FDCWD, path, &id) < 0)
            continue;
        if (id < sockets_max)
            topology->socket[cpu] = (uint8_t)id;
        else
            log_warning("CPU in a socket of too high a number, counted to socket 0",
                        F_UINT("cpu", cpu), F_UINT("socket", id));
    }
    return 0;
}

void topology_deinit(struct topology *topology)
{
    free(topology->socket);
    *topology = (struct topology){0};
}
