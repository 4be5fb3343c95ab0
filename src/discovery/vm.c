/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/vm.h"

#include <stdlib.h>

void vm_table_deinit(struct vm_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        free(table->vms[i].processes);
    free(table->vms);
    *table = (struct vm_table){0};
}

static int compare_key(const void *key, const void *element)
{
    const struct vm *vm = element;

    return uuid_compare(key, vm->uuid);
}

const struct vm *vm_table_find(const struct vm_table *table, const uuid_t uuid)
{
    if (table->n == 0)
        return NULL;
    return bsearch(uuid, table->vms, table->n, sizeof(*table->vms), compare_key);
}

const char *vm_manager_to_string(enum vm_manager manager)
{
    switch (manager) {
    case VM_MANAGER_NONE:
        return "none";
    case VM_MANAGER_LIBVIRT:
        return "libvirt";
    case VM_MANAGER_PROXMOX:
        return "proxmox";
    case VM_MANAGER_KUBEVIRT:
        return "kubevirt";
    }
    return "none";
}
