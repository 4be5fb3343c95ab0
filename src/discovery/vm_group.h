/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "discovery/process.h"
#include "discovery/vm.h"

/**
 * Makes VMs of processes: those with one UUID are one VM, and each helper joins
 * the VM whose control group, socket or QEMU process it belongs to. A trusted helper
 * serves trusted VMs, any other those of its own owner.
 * @param processes        sorted by PID, each PID once, UUIDs assigned
 * @param ret              the VMs, all running: the oldest VMS_MAX of them
 * @param ret_shared_path  a control group or socket that several VMs name, which belongs
 *                         to none of them, or NULL; points into the processes
 * @return 0 or -ENOMEM
 */
int vm_group_processes(const struct process *processes, size_t n, struct vm_table *ret,
                       const char **ret_shared_path);
