/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/vm_merge.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Moves a VM with its processes. */
static struct vm take_vm(struct vm *vm)
{
    struct vm taken = *vm;

    vm->processes = NULL;
    vm->n_processes = 0;
    return taken;
}

static void apply_domain(struct vm *vm, const struct libvirt_domain *domain)
{
    uuid_copy(vm->uuid, domain->uuid);
    memcpy(vm->name, domain->name, sizeof(vm->name));
    vm->trusted = true;
    vm->defined = domain->defined;
    /* libvirt sends no event for a plugged vCPU: its number may be old, the process' is current. */
    if (!vm->running)
        vm->vcpus = domain->vcpus;
    vm->start_number = domain->start_number;
    vm->arrival = domain->arrival;
    /* libvirt manages KubeVirt's VMs too: the manager nearest to the user is reported. */
    if (vm->manager != VM_MANAGER_KUBEVIRT)
        vm->manager = VM_MANAGER_LIBVIRT;
}

int vm_merge(struct vm_table *found, const struct libvirt_domain *domains, size_t n_domains,
             bool keep_unmanaged, struct vm_table *ret)
{
    struct vm *vms = calloc(found->n + n_domains + 1, sizeof(*vms));
    size_t off_max = found->n < VMS_MAX ? VMS_MAX - found->n : 0, n_off = 0;
    struct vm_excess excess = found->excess;
    size_t f = 0, d = 0, n = 0;

    if (!vms)
        return -ENOMEM;
    while (f < found->n || d < n_domains) {
        int order = f == found->n    ? 1
                    : d == n_domains ? -1
                                     : uuid_compare(found->vms[f].uuid, domains[d].uuid);

        if (order < 0) {
            if (keep_unmanaged)
                vms[n++] = take_vm(&found->vms[f]);
            f++;
            continue;
        }
        /* A transient domain without a process ended a moment ago, or runs on another host. */
        if (order == 0 || (domains[d].defined && n_off < off_max)) {
            if (order == 0)
                vms[n] = take_vm(&found->vms[f++]);
            else
                n_off++;
            apply_domain(&vms[n++], &domains[d]);
        } else if (domains[d].defined)
            excess.vms++;
        d++;
    }
    *ret = (struct vm_table){vms, n, excess};
    return 0;
}
