/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "discovery/vm_merge.h"

#define UUID(n)                                                                                    \
    {                                                                                              \
        [0] = (n), [15] = 7                                                                        \
    }

static struct vm running_vm(unsigned char n, const char *name, enum vm_manager manager)
{
    struct vm vm = {.uuid = UUID(n), .manager = manager, .running = true, .vcpus = 1};

    strcpy(vm.name, name);
    vm.processes = calloc(1, sizeof(*vm.processes));
    assert_non_null(vm.processes);
    vm.processes[0].id.pid = 100 + n;
    vm.n_processes = 1;
    return vm;
}

static struct vm_table table_of(const struct vm *vms, size_t n)
{
    struct vm_table table = {.vms = calloc(n, sizeof(*vms)), .n = n};

    assert_non_null(table.vms);
    memcpy(table.vms, vms, n * sizeof(*vms));
    return table;
}

static const struct libvirt_domain domains[] = {
    {.uuid = UUID(1), .name = "off", .defined = true, .vcpus = 2},
    {.uuid = UUID(3), .name = "on,=\n", .defined = true, .vcpus = 4, .start_number = 17},
    {.uuid = UUID(5), .name = "gone", .vcpus = 1},
    {.uuid = UUID(6), .name = "transient", .vcpus = 8},
    {.uuid = UUID(9), .name = "last", .defined = true, .vcpus = 1},
};

static void test_both(void **state)
{
    const struct vm vms[] = {
        running_vm(0, "hand", VM_MANAGER_NONE),
        running_vm(3, "old name", VM_MANAGER_LIBVIRT),
        running_vm(4, "pve", VM_MANAGER_PROXMOX),
        running_vm(6, "transient", VM_MANAGER_KUBEVIRT),
    };
    struct vm_table found = table_of(vms, ELEMENTS(vms));
    struct vm_table table;

    assert_int_equal(vm_merge(&found, domains, ELEMENTS(domains), true, &table), 0);
    assert_int_equal(table.n, 6);
    assert_int_equal(table.vms[0].uuid[0], 0);
    assert_false(table.vms[0].defined);
    assert_int_equal(table.vms[0].manager, VM_MANAGER_NONE);
    assert_int_equal(table.vms[0].processes[0].id.pid, 100);

    assert_string_equal(table.vms[1].name, "off");
    assert_true(table.vms[1].defined);
    assert_false(table.vms[1].running);
    assert_int_equal(table.vms[1].n_processes, 0);
    assert_int_equal(table.vms[1].vcpus, 2);
    assert_int_equal(table.vms[1].manager, VM_MANAGER_LIBVIRT);

    assert_string_equal(table.vms[2].name, "on,=\n");
    assert_true(table.vms[2].defined);
    assert_true(table.vms[2].running);
    assert_int_equal(table.vms[2].processes[0].id.pid, 103);
    assert_int_equal(table.vms[2].vcpus, 1); /* as its process has now */

    assert_int_equal(table.vms[3].manager, VM_MANAGER_PROXMOX);

    assert_string_equal(table.vms[4].name, "transient");
    assert_false(table.vms[4].defined);
    assert_true(table.vms[4].running);
    assert_int_equal(table.vms[4].manager, VM_MANAGER_KUBEVIRT);
    assert_int_equal(table.vms[4].vcpus, 1);

    assert_string_equal(table.vms[5].name, "last");
    vm_table_deinit(&table);
    vm_table_deinit(&found);
}

static void test_unmanaged_left_out(void **state)
{
    const struct vm vms[] = {
        running_vm(0, "hand", VM_MANAGER_NONE),
        running_vm(3, "old name", VM_MANAGER_LIBVIRT),
        running_vm(255, "hand too", VM_MANAGER_NONE),
    };
    struct vm_table found = table_of(vms, ELEMENTS(vms));
    struct vm_table table;

    assert_int_equal(vm_merge(&found, domains, ELEMENTS(domains), false, &table), 0);
    assert_int_equal(table.n, 3);
    assert_string_equal(table.vms[0].name, "off");
    assert_string_equal(table.vms[1].name, "on,=\n");
    assert_true(table.vms[1].running);
    assert_string_equal(table.vms[2].name, "last");
    vm_table_deinit(&table);
    vm_table_deinit(&found);
}

/* Domains that are off do not displace a VM that runs. */
static void test_too_many_domains(void **state)
{
    const struct vm vms[] = {running_vm(255, "hand", VM_MANAGER_NONE)};
    struct libvirt_domain *many = calloc(VMS_MAX + 1, sizeof(*many));
    struct vm_table found = table_of(vms, ELEMENTS(vms)), table;

    assert_non_null(many);
    for (unsigned i = 0; i < VMS_MAX + 1; i++)
        many[i] = (struct libvirt_domain){
            .uuid = {[1] = (unsigned char)(i >> 8), [2] = (unsigned char)i}, .defined = true};
    assert_int_equal(vm_merge(&found, many, VMS_MAX + 1, true, &table), 0);
    assert_int_equal(table.n, VMS_MAX);
    assert_int_equal(table.excess.vms, 2);
    assert_non_null(vm_table_find(&table, vms[0].uuid));
    vm_table_deinit(&table);
    vm_table_deinit(&found);
    free(many);
}

static void test_empty(void **state)
{
    struct vm_table found = {0}, table = {0};
    const uuid_t uuid = UUID(1);

    assert_int_equal(vm_merge(&found, NULL, 0, true, &table), 0);
    assert_int_equal(table.n, 0);
    assert_null(vm_table_find(&table, uuid));
    vm_table_deinit(&table);
    assert_null(table.vms);
    assert_null(vm_table_find(&table, uuid));
}

static void test_find(void **state)
{
    struct vm_table found = {0}, table;
    uuid_t uuid = UUID(1);

    assert_int_equal(vm_merge(&found, domains, ELEMENTS(domains), true, &table), 0);
    assert_int_equal(table.n, 3);
    for (size_t i = 0; i < table.n; i++)
        assert_ptr_equal(vm_table_find(&table, table.vms[i].uuid), &table.vms[i]);
    uuid[15] = 8;
    assert_null(vm_table_find(&table, uuid));
    vm_table_deinit(&table);
}

static void test_manager_names(void **state)
{
    assert_string_equal(vm_manager_to_string(VM_MANAGER_NONE), "none");
    assert_string_equal(vm_manager_to_string(VM_MANAGER_LIBVIRT), "libvirt");
    assert_string_equal(vm_manager_to_string(VM_MANAGER_PROXMOX), "proxmox");
    assert_string_equal(vm_manager_to_string(VM_MANAGER_KUBEVIRT), "kubevirt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both),
        cmocka_unit_test(test_unmanaged_left_out),
        cmocka_unit_test(test_too_many_domains),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_manager_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
