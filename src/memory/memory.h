/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Resident memory of each VM and of the host, per socket, for every usage provider.
 *
 * A VM's memory is that of its QEMU: anonymous memory, shared memory (memfd,
 * tmpfs), huge pages and mapped files, whichever of them holds the guest's RAM;
 * and the anonymous memory of its helpers, which map the same RAM again. Page
 * cache that no process maps (disk images) is the host's, and reclaimable.
 *
 * Sources, best first, chosen for each VM:
 *  - memory.numa_stat and hugetlb.*.numa_stat of the VM's machine scope, where
 *    it has one of its own: bytes per node;
 *  - /proc/PID/status: bytes. On a host with several nodes /proc/PID/numa_maps
 *    gives the proportions between them. It is read only now and then, because reading it walks
 *    the guest's page tables; where it cannot be read, the VM's CPU time gives the proportions.
 *
 * Cost: a call reads as many VMs as fit in 1 ms of CPU time, and one at least:
 * new VMs first, then those that were read longest ago. The others keep their
 * values. Page tables have another 1 ms per call on average: a walk that took
 * longer, 250 ms at most, is paid back before the next one. A guest whose walk
 * would take longer is not walked (some 25 GB in small pages; huge pages, and
 * guests that were walked while they were small, have more).
 */

#include "discovery/vm.h"
#include "host/topology.h"
#include "usage/usage.h"

struct memory_reader;

/**
 * @param proc_root   "/proc", or a directory laid out like it
 * @param sysfs_root  where control groups and the nodes' meminfo are
 * @param topology    kept, not copied; may be read again between calls
 * @return 0, -ENOMEM, or another negative errno when proc_root cannot be opened (logged)
 */
int memory_reader_new(struct memory_reader **ret, const char *proc_root, const char *sysfs_root,
                      const struct topology *topology);
struct memory_reader *memory_reader_free(struct memory_reader *reader);

/**
 * Fills sockets[].memory_bytes of the usage's VMs and host. A VM that is not in
 * the table, or has not been read yet, has 0.
 * @param usage  VMs sorted by UUID, CPU time already filled in
 * @return 0, or -ENOMEM; the VMs then have the values of the last call
 */
int memory_reader_sample(struct memory_reader *reader, const struct vm_table *vms,
                         struct usage *usage);
