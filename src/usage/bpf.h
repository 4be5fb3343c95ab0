/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "host/cpu_counters.h"
#include "host/trusted_owners.h"
#include "usage/usage.h"

struct bpf_usage_config {
    const char *sysfs_root;             /* where the CPUs' sockets are read from */
    size_t processes_max;               /* QEMU and helper processes, of all VMs together */
    const struct cpu_counter *counters; /* cycles, instructions, LLC misses */
    const struct trusted_owners *owners; /* whose programs may be VMs'; NULL: everybody's */
    struct usage_former former;
};

/** Room for 5000 VMs with two helpers each: 2 MiB of the kernel's memory on one socket. */
#define BPF_USAGE_PROCESSES_MAX 16384

/** The PMU's events. */
extern const struct cpu_counter bpf_usage_counters[];

/**
 * Usage from the scheduler's own account, kept in the kernel by eBPF programs:
 * exact to the nanosecond, per socket, with the time during which SMT siblings ran
 * together, and with PMU counts where there is a PMU. Where a service manager
 * keeps the programs, they go on counting between two daemons of the same build.
 * @return 0, or a negative errno when the kernel refuses the programs (logged for
 *         debugging only); -EXDEV in a PID namespace
 */
int bpf_usage_new(struct usage_provider **ret, const struct bpf_usage_config *config);
