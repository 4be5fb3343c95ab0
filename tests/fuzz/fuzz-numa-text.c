/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every parser of host/topology_text.h and memory/memory_text.h over the same bytes. */

#include "fuzz.h"

#include <stdbool.h>

#include "host/topology_text.h"
#include "memory/memory_text.h"

#define NODES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    unsigned distances[NODES];
    uint64_t nodes[NODES] = {0}, huge[NODES] = {0};
    bool listed[64];
    size_t n;

    (void)parse_cpulist(text, size, listed, 64);
    if (parse_node_distances(text, size, distances, NODES, &n) == 0)
        require(n >= 1 && n <= NODES);
    (void)parse_cgroup2_numa_stat(text, size, nodes, NODES);
    (void)parse_cgroup1_numa_stat(text, size, 4096, nodes, NODES);
    (void)parse_hugetlb_numa_stat(text, size, nodes, NODES);
    (void)parse_numa_maps(text, size, nodes, huge, NODES);
    return 0;
}
