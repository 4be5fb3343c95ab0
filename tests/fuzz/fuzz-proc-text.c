/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Every parser of host/proc_text.h over the same bytes. */

#include "fuzz.h"

#include <string.h>

#include "host/proc_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct proc_cpu cpus[8];
    struct proc_memory memory;
    struct proc_stat stat;
    uint64_t value;
    size_t n;

    if (parse_proc_stat(text, size, &stat) == 0)
        require(stat.pid >= 0 && stat.processor >= 0 &&
                strnlen(stat.comm, sizeof(stat.comm)) < sizeof(stat.comm));
    if (parse_proc_cpus(text, size, cpus, 8, &n) == 0)
        require(n >= 1 && n <= 8);
    (void)parse_proc_schedstat(text, size, &value);
    (void)parse_proc_memory(text, size, &memory);
    (void)parse_proc_io(text, size, &value);
    (void)parse_meminfo_used(text, size, &value);
    (void)parse_proc_listener(text, size, 0x7E8, &value);
    return 0;
}
