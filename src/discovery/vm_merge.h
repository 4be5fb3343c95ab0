/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "discovery/vm.h"
#include "libvirt/libvirt_watch.h"

/**
 * Merges libvirt's domains with the VMs found in /proc: libvirt gives the name, the vCPUs and
 * whether the VM is defined, /proc the processes and thereby whether the VM runs.
 * @param found           VMs with their processes, sorted by UUID; the processes
 *                        that go into the result are taken out of it
 * @param domains         sorted by UUID, each UUID once
 * @param keep_unmanaged  whether VMs that libvirt does not know count
 * @return 0, or -ENOMEM and nothing was taken; domains that are off have what room is left of
 *         VMS_MAX
 */
int vm_merge(struct vm_table *found, const struct libvirt_domain *domains, size_t n_domains,
             bool keep_unmanaged, struct vm_table *ret);
