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
    vm->defined = domain->defined;
    /* No event tells of a vCPU that is plugged: libvirt's number may be old, a process' is not. */
    if (!vm->running)
        vm->vcpus = domain->vcpus;
    vm->start_number = domain->start_number;
    vm->arrival = domain->arrival;
    /* KubeVirt's VMs are libvirt's as well: the nearer manager is told. */
    if (vm->manager != VM_MANAGER_KUBEVIRT)
        vm->manager = VM_MANAGER_LIBVIRT;
}

int vm_merge(struct vm_table *found, const struct libvirt_domain *domains, size_t n_domains,
             bool keep_unmanaged, struct vm_table *ret)
{
    struct vm *vms = calloc(found->n + n_domains + 1, sizeof(*vms));
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
        /* A transient domain that does not run here ended a moment ago, or runs elsewhere. */
        if (order == 0 || domains[d].defined) {
            if (order == 0)
                vms[n] = take_vm(&found->vms[f++]);
            apply_domain(&vms[n++], &domains[d]);
        }
        d++;
    }
    *ret = (struct vm_table){vms, n};
    return 0;
}
