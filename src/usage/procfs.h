/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "usage/usage.h"

/**
 * Usage from /proc and the kernel's process clocks; needs no eBPF.
 * @param proc_root   "/proc", or a directory laid out like it (then in clock
 *                    ticks: only the running kernel's /proc has process clocks)
 * @param sysfs_root  where the CPUs' sockets are read from
 * @param former      processes of VMs that it lists and that still run continue from its
 *                    totals, younger ones count from their start; the last CPU time of
 *                    processes that ended meanwhile counts to the host
 * @return 0 or a negative errno; logged
 */
int procfs_usage_new(struct usage_provider **ret, const char *proc_root, const char *sysfs_root,
                     const struct usage_former *former);
