/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a former daemon's usage provider had left: whatever is accepted is saved as it was. */

#include "fuzz.h"

#include <string.h>

#include "host/cpu_busy.h"
#include "usage/host_cpus.h"
#include "usage/process_table.h"
#include "usage/usage_state.h"

#define TIME_NS 1
#define RECORD_SIZE (offsetof(struct vm_usage_process, sockets) + sizeof(struct vm_usage_counts))

static void try_population(struct bytes bytes)
{
    const unsigned char *start = bytes.next;
    struct process_table table;
    struct buffer saved = {0};

    if (process_table_restore(&table, &bytes, RECORD_SIZE) < 0)
        return;
    require(process_table_save(&table, &saved) == 0);
    require(saved.size == (size_t)(bytes.next - start));
    process_table_deinit(&table);
    buffer_deinit(&saved);
}

static void try_cpus(struct bytes bytes)
{
    static struct cpu_busy *busy;
    struct buffer saved = {0};

    if (!busy)
        require(cpu_busy_new(&busy, "/proc") == 0);
    if (cpu_busy_restore(busy, &bytes, UINT64_MAX / 2) == 0) {
        require(cpu_busy_update(busy, UINT64_MAX / 2) == 0);
        require(cpu_busy_save(busy, &saved) == 0);
    }
    buffer_deinit(&saved);
}

static void try_host(struct bytes bytes)
{
    static struct host_cpus *cpus;
    struct buffer saved = {0};

    if (!cpus)
        require(host_cpus_new(&cpus, "/proc", "/sys") == 0);
    if (host_cpus_restore(cpus, &bytes) == 0)
        require(host_cpus_update(cpus) >= 0 && host_cpus_save(cpus, &saved) == 0);
    buffer_deinit(&saved);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer state = {0};
    struct bytes bytes;

    require(usage_state_begin(&state, "procfs", TIME_NS) == 0);
    require(buffer_append(&state, data, size) == 0);
    /* No checksum keeps the rest of the parsers from being tried. */
    usage_state_seal(&state);
    require(usage_state_open(state.bytes, state.size, "procfs", TIME_NS, &bytes) == 0);
    require(bytes.left == size);
    try_population(bytes);
    try_cpus(bytes);
    try_host(bytes);
    if (size >= sizeof(struct usage_state_head)) {
        memcpy(state.bytes, data, size);
        usage_state_open(state.bytes, size, "procfs", TIME_NS, &bytes);
    }
    buffer_deinit(&state);
    return 0;
}
