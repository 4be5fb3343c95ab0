/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"

int topology_read(struct topology *ret, const char *sysfs_root, size_t n_cpus, unsigned sockets_max)
{
    _cleanup_free_ uint8_t *socket = calloc(n_cpus ? n_cpus : 1, sizeof(*socket));

    if (!socket)
        return -ENOMEM;
    for (size_t cpu = 0; cpu < n_cpus; cpu++) {
        char path[4096];
        uint64_t id;

        snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%zu/topology/physical_package_id",
                 sysfs_root, cpu);
        if (read_sysfs_u64(AT_FDCWD, path, &id) < 0)
            continue;
        if (id < sockets_max)
            socket[cpu] = (uint8_t)id;
        else
            log_warning("CPU in a socket of too high a number, counted to socket 0",
                        F_UINT("cpu", cpu), F_UINT("socket", id));
    }
    ret->n_cpus = n_cpus;
    ret->socket = TAKE_PTR(socket);
    return 0;
}

void topology_deinit(struct topology *topology)
{
    free(topology->socket);
    *topology = (struct topology){0};
}
