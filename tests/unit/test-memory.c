/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/machine.h"
#include "fixture.h"
#include "memory/memory.h"

/* On a recorded tree: two sockets with a node each, numbered 0 and 2. */

#define KB UINT64_C(1024)
#define SCOPE "/machine.slice/machine-qemu\\x2d1\\x2da.scope"
#define STATUS "RssAnon:\t 10 kB\nRssFile:\t 20 kB\nRssShmem:\t 200 kB\nHugetlbPages:\t 50 kB\n"
#define NUMA_STAT(anon, shmem, mapped)                                                             \
    "anon " anon "\nfile N0=99999999 N2=99999999\nshmem " shmem "\nfile_mapped " mapped "\n"

static void write_process(const char *root, pid_t pid, const char *status, const char *cgroup)
{
    fixture_write(root, status, "%d/status", pid);
    fixture_write(root, cgroup, "%d/cgroup", pid);
    fixture_write(root,
                  "1 (qemu) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0 0 0 0 0 0 0 0 0 0 0 0 "
                  "0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                  "%d/stat", pid);
}

static int setup_one_node(void **state)
{
    fixture_setup(state);
    fixture_write(*state, "0\n", "devices/system/cpu/cpu0/topology/physical_package_id");
    fixture_write(*state, "1\n", "devices/system/cpu/cpu1/topology/physical_package_id");
    fixture_write(*state, "MemTotal: 1000 kB\nMemFree: 100 kB\n", "meminfo");
    fixture_write(*state, "memory\n", "fs/cgroup/cgroup.controllers");
    write_process(*state, 10, STATUS, "0::/user.slice\n");
    write_process(*state, 11, STATUS, "0::/user.slice\n");
    return 0;
}

static int setup(void **state)
{
    setup_one_node(state);
    fixture_write(*state, "0\n", "devices/system/node/node0/cpulist");
    fixture_write(*state, "1\n", "devices/system/node/node2/cpulist");
    fixture_write(*state, "Node 0 MemTotal: 5000 kB\nNode 0 MemFree: 1000 kB\n",
                  "devices/system/node/node0/meminfo");
    fixture_write(*state, "Node 2 MemTotal: 7000 kB\nNode 2 MemFree: 1000 kB\n",
                  "devices/system/node/node2/meminfo");
    return 0;
}

/* Two VMs: QEMU 10 with a helper 11, QEMU 20. */
struct host {
    struct topology topology;
    struct memory_reader *reader;
    struct vm_process processes[3];
    struct machine machine;
};

static void host_open(struct host *host, const char *root, size_t n_vms)
{
    machine_init(&host->machine, n_vms);
    assert_int_equal(topology_read(&host->topology, root, 2, PACKAGES_MAX), 0);
    assert_int_equal(memory_reader_new(&host->reader, root, root, &host->topology), 0);
}

static void host_init(struct host *host, const char *root, size_t n_vms)
{
    host_open(host, root, n_vms);
    host->processes[0] = (struct vm_process){{10, 100}, VM_PROCESS_QEMU};
    host->processes[1] = (struct vm_process){{11, 100}, VM_PROCESS_HELPER};
    host->processes[2] = (struct vm_process){{20, 100}, VM_PROCESS_QEMU};
    for (size_t i = 0; i < n_vms; i++) {
        host->machine.vms.vms[i].processes = &host->processes[2 * i];
        host->machine.vms.vms[i].n_processes = 2 - i;
    }
}

static void host_deinit(struct host *host)
{
    memory_reader_free(host->reader);
    topology_deinit(&host->topology);
    machine_deinit(&host->machine);
}

static void sample(struct host *host)
{
    assert_int_equal(memory_reader_sample(host->reader, &host->machine.vms, &host->machine.usage),
                     0);
}

/* Until all is examined anew. */
static void sample_often(struct host *host)
{
    for (int i = 0; i < 100; i++)
        sample(host);
}

static void check_vm(const struct host *host, size_t vm, uint64_t socket_0, uint64_t socket_1)
{
    assert_int_equal(host->machine.usage.vms[vm].amount.sockets[0].memory_bytes, socket_0);
    assert_int_equal(host->machine.usage.vms[vm].amount.sockets[1].memory_bytes, socket_1);
}

/* One sample of one VM by a reader that is new. */
static void check_once(const char *root, uint64_t socket_0, uint64_t socket_1)
{
    struct host host;

    host_init(&host, root, 1);
    sample(&host);
    check_vm(&host, 0, socket_0, socket_1);
    host_deinit(&host);
}

/* All that QEMU maps, 280 kB, and what the helper has of its own, 10 kB, as the page tables say. */
static void test_processes(void **state)
{
    struct host host;

    fixture_write(*state,
                  "7f00 default anon=1 N0=1 kernelpagesize_kB=4\n"
                  "7f40 default file=/memfd:ram\\040(deleted) N2=1 N0=1 kernelpagesize_kB=4\n"
                  "7f80 default file=/anon_hugepage huge N2=1 kernelpagesize_kB=8\n",
                  "10/numa_maps");
    host_init(&host, *state, 1);
    sample(&host);
    check_vm(&host, 0, 290 * KB * 2 / 5, 290 * KB * 3 / 5);
    assert_int_equal(host.machine.usage.host.sockets[0].memory_bytes, 4000 * KB - 290 * KB * 2 / 5);
    assert_int_equal(host.machine.usage.host.sockets[1].memory_bytes, 6000 * KB - 290 * KB * 3 / 5);
    /* The amount is read each time, the proportions now and then. */
    fixture_write(*state, "RssAnon: 1000 kB\n", "10/status");
    fixture_write(*state, "7f00 default anon=1 N0=1 kernelpagesize_kB=4\n", "10/numa_maps");
    sample(&host);
    check_vm(&host, 0, 1010 * KB * 2 / 5, 1010 * KB * 3 / 5);
    sample_often(&host);
    check_vm(&host, 0, 1010 * KB, 0);
    /* What becomes unreadable keeps its value; the host never has less than nothing. */
    fixture_write(*state, "RssAnon: 1000000 kB\n", "10/status");
    sample(&host);
    check_vm(&host, 0, 1000010 * KB, 0);
    assert_int_equal(host.machine.usage.host.sockets[0].memory_bytes, 0);
    fixture_write(*state, "RssAnon: 10 kB\nRssAnon", "10/status");
    sample(&host);
    check_vm(&host, 0, 1000010 * KB, 0);
    host_deinit(&host);
}

/* Nothing says where the memory is: it is taken to be where the VM ran. */
static void test_no_page_tables(void **state)
{
    struct host host;

    host_init(&host, *state, 1);
    sample(&host);
    check_vm(&host, 0, 290 * KB, 0);
    machine_amount(&host.machine, 0)->sockets[0].cpu_ns = 100;
    machine_amount(&host.machine, 0)->sockets[1].cpu_ns = 900;
    sample(&host);
    check_vm(&host, 0, 29 * KB, 261 * KB);
    host_deinit(&host);
    fixture_write(*state, "garbage\n", "10/numa_maps");
    check_once(*state, 290 * KB, 0);
    fixture_write(*state, "", "10/numa_maps");
    check_once(*state, 290 * KB, 0);
}

/* A walk that would take seconds is left out; a grown guest keeps its last proportions. */
static void test_large_guest_is_not_walked(void **state)
{
    static const char maps[] = "7f00 default anon=1 N2=1 kernelpagesize_kB=4\n";
    struct host host;

    fixture_write(*state, maps, "10/numa_maps");
    fixture_write(*state, "RssAnon: 1000000000 kB\n", "10/status");
    check_once(*state, 1000000010 * KB, 0);
    fixture_write(*state, "RssAnon: 5000000 kB\n", "10/status");
    host_init(&host, *state, 1);
    sample(&host);
    check_vm(&host, 0, 0, 5000010 * KB);
    fixture_write(*state, "RssAnon: 1000000000000000 kB\n", "10/status");
    fixture_write(*state, "7f00 default anon=1 N0=1 kernelpagesize_kB=4\n", "10/numa_maps");
    sample_often(&host);
    check_vm(&host, 0, 0, 1000000000000010 * KB);
    host_deinit(&host);
}

/* The page tables are walked for proportions alone: with one socket nobody opens the file, which
 * would block here. Nor are there nodes in sysfs. */
static void test_one_node(void **state)
{
    char path[PATH_MAX];
    struct host host;

    snprintf(path, sizeof(path), "%s/10/numa_maps", (const char *)*state);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(60);
    host_init(&host, *state, 1);
    sample_often(&host);
    check_vm(&host, 0, 290 * KB, 0);
    assert_int_equal(host.machine.usage.host.sockets[0].memory_bytes, (900 - 290) * KB);
    host_deinit(&host);
    alarm(0);
}

static void test_scope(void **state)
{
    /* Kernel 6.1: no account of huge pages, as most hosts have it. The helper is in the scope. */
    write_process(*state, 10, "RssAnon: 77 kB\n", "0::" SCOPE "/libvirt/emulator\n");
    write_process(*state, 11, STATUS, "0::" SCOPE "/libvirt/emulator\n");
    fixture_write(*state, NUMA_STAT("N0=1000 N2=200", "N0=5000 N2=0", "N0=5100 N2=10"),
                  "fs/cgroup" SCOPE "/memory.numa_stat");
    check_once(*state, 6100, 210);
    /* A helper elsewhere adds its own, in the VM's proportions. */
    write_process(*state, 11, STATUS, "0::/system.slice/x.service\n");
    fixture_write(*state, NUMA_STAT("N0=1000 N2=1000", "N0=0 N2=0", "N0=0 N2=0"),
                  "fs/cgroup" SCOPE "/memory.numa_stat");
    check_once(*state, 1000 + 5 * KB, 1000 + 5 * KB);
    /* Without the account, or with a broken one: as if there were no scope. */
    fixture_write(*state, "anon N0=1000\n", "fs/cgroup" SCOPE "/memory.numa_stat");
    check_once(*state, 87 * KB, 0);
    fixture_remove(*state, "fs/cgroup" SCOPE "/memory.numa_stat");
    check_once(*state, 87 * KB, 0);
}

static void test_scope_v1(void **state)
{
    char text[64];

    fixture_remove(*state, "fs/cgroup/cgroup.controllers");
    fixture_write(*state, "anon N0=1 N2=1\n", "fs/cgroup/unified/machine/x/memory.numa_stat");
    fixture_write(*state,
                  "total=3 N0=2 N2=1\nhierarchical_total=3 N0=2 N2=1\nhierarchical_file=1 N0=1\n"
                  "hierarchical_anon=4 N0=1 N2=3\nhierarchical_unevictable=0 N0=0 N2=0\n",
                  "fs/cgroup/memory/machine/qemu-1-a.libvirt-qemu/memory.numa_stat");
    snprintf(text, sizeof(text), "total=0 N0=0\nhierarchical_total=%lu N0=0 N2=%lu\n", 50 * KB,
             50 * KB);
    for (pid_t pid = 10; pid <= 11; pid++)
        write_process(*state, pid, STATUS,
                      "4:hugetlb:/machine/qemu-1-a.libvirt-qemu/emulator\n"
                      "3:cpuset,memory:/machine/qemu-1-a.libvirt-qemu/emulator\n"
                      "0::/machine/qemu-1-a.libvirt-qemu/emulator\n");
    fixture_write(*state, text,
                  "fs/cgroup/hugetlb/machine/qemu-1-a.libvirt-qemu/hugetlb.2MB.numa_stat");
    check_once(*state, (uint64_t)getpagesize(), (uint64_t)getpagesize() * 3 + 50 * KB);
}

/* v1 for some controllers; the memory controller is v2's, beside it. */
static void test_scope_hybrid(void **state)
{
    fixture_remove(*state, "fs/cgroup/cgroup.controllers");
    fixture_write(*state, NUMA_STAT("N0=1000 N2=0", "N0=0 N2=500", "N0=0 N2=0"),
                  "fs/cgroup/unified" SCOPE "/memory.numa_stat");
    for (pid_t pid = 10; pid <= 11; pid++)
        write_process(*state, pid, "RssAnon: 77 kB\n",
                      "9:name=systemd:" SCOPE "\n1:cpu,cpuacct:/\n0::" SCOPE "\n");
    check_once(*state, 1000, 500);
}

static void test_huge_pages_in_a_scope(void **state)
{
    write_process(*state, 10, STATUS, "0::" SCOPE "\n");
    write_process(*state, 11, STATUS, "0::" SCOPE "\n");
    fixture_write(*state, NUMA_STAT("N0=1000 N2=0", "N0=0 N2=0", "N0=0 N2=0"),
                  "fs/cgroup" SCOPE "/memory.numa_stat");
    /* No account: QEMU's status has the amount, its page tables the place. */
    fixture_write(*state,
                  "7f00 default anon=9 N0=9 kernelpagesize_kB=4\n"
                  "7f80 default file=/anon_hugepage huge N2=2 kernelpagesize_kB=2048\n",
                  "10/numa_maps");
    check_once(*state, 1000, 50 * KB);
    fixture_write(*state, "total=7 N0=3 N2=4\n", "fs/cgroup" SCOPE "/hugetlb.1GB.numa_stat");
    fixture_write(*state, "total=50 N0=40 N2=10\n", "fs/cgroup" SCOPE "/hugetlb.2MB.numa_stat");
    check_once(*state, 1043, 14);
}

/* Groups that a tenant could have made or named tell nothing. */
static void test_groups_made_to_confuse(void **state)
{
    static const char *const paths[] = {
        "/user.slice/user-1.slice/user@1.service/a.slice/machine-qemu\\x2d1\\x2da.scope",
        "/machine.slice/machine-lxc\\x2d1.scope/machine.slice/machine-qemu\\x2d1\\x2da.scope",
        "/docker/0123/machine/qemu-1-a.libvirt-qemu",
        "/../machine.slice/machine-qemu\\x2d1\\x2da.scope",
        "/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope",
        "/machine.slice/libvirtd.service/machine-qemu\\x2d1\\x2da.scope",
        "/machine-qemu\\x2d1\\x2da.service",
        "machine-qemu\\x2d1\\x2da.scope",
        "",
    };

    for (size_t i = 0; i < ELEMENTS(paths); i++) {
        char text[512];

        snprintf(text, sizeof(text), "0::%s\n", paths[i]);
        write_process(*state, 10, "RssAnon: 77 kB\n", text);
        fixture_write(*state, NUMA_STAT("N0=1 N2=1", "N0=0 N2=0", "N0=0 N2=0"),
                      "fs/cgroup/%s/memory.numa_stat", paths[i]);
        check_once(*state, 87 * KB, 0);
    }
}

static void test_two_vms_in_one_scope(void **state)
{
    struct host host;

    write_process(*state, 10, "RssAnon: 70 kB\n", "0::" SCOPE "\n");
    write_process(*state, 11, "", "0::" SCOPE "\n");
    write_process(*state, 20, "RssAnon: 30 kB\n", "0::" SCOPE "/libvirt/emulator\n");
    fixture_write(*state, NUMA_STAT("N0=100000 N2=0", "N0=0 N2=0", "N0=0 N2=0"),
                  "fs/cgroup" SCOPE "/memory.numa_stat");
    host_init(&host, *state, 2);
    /* The one that was read first could not know. */
    sample(&host);
    sample(&host);
    check_vm(&host, 0, 70 * KB, 0);
    check_vm(&host, 1, 30 * KB, 0);
    sample_often(&host);
    check_vm(&host, 0, 70 * KB, 0);
    check_vm(&host, 1, 30 * KB, 0);
    /* The other one goes. */
    host.machine.vms.n = 1;
    host.machine.usage.n_vms = 1;
    sample_often(&host);
    check_vm(&host, 0, 100000, 0);
    host_deinit(&host);
}

static void test_vms_come_and_go(void **state)
{
    struct host host;

    write_process(*state, 20, "RssAnon: 30 kB\n", "0::/\n");
    host_init(&host, *state, 2);
    host.machine.vms.vms[0].n_processes = 0; /* defined, off */
    sample(&host);
    check_vm(&host, 0, 0, 0);
    check_vm(&host, 1, 30 * KB, 0);
    host.machine.vms.vms[0].n_processes = 2;
    sample(&host);
    check_vm(&host, 0, 290 * KB, 0);
    /* Another run of the same VM, whose process is gone again, has nothing of the first. */
    host.processes[0].id = (struct process_id){12, 200};
    sample(&host);
    check_vm(&host, 0, 0, 0);
    /* One more is examined at once: it is in a scope. */
    write_process(*state, 13, "RssAnon: 1 kB\n", "0::" SCOPE "\n");
    fixture_write(*state, NUMA_STAT("N0=0 N2=0", "N0=7 N2=8", "N0=0 N2=0"),
                  "fs/cgroup" SCOPE "/memory.numa_stat");
    host.processes[0].id = (struct process_id){13, 100};
    host.machine.vms.vms[0].n_processes = 1;
    sample(&host);
    check_vm(&host, 0, 7, 8);
    /* Nor has one whose PID is another process now. */
    host.processes[0].id = (struct process_id){10, 101};
    sample(&host);
    check_vm(&host, 0, 0, 0);
    /* Ended within the interval: still in the usage, but not in the table. */
    host.machine.vms.vms[0] = host.machine.vms.vms[1];
    host.machine.vms.n = 1;
    sample(&host);
    check_vm(&host, 0, 0, 0);
    check_vm(&host, 1, 30 * KB, 0);
    host.machine.vms.n = 0;
    sample(&host);
    check_vm(&host, 1, 0, 0);
    host_deinit(&host);
}

#define MANY 2000

/* More than fits in a call: none is forgotten, each call has the ones that waited longest. */
static void test_many_vms_share_the_budget(void **state)
{
    struct vm_process *processes = calloc(MANY, sizeof(*processes));
    struct host host;
    unsigned calls = 0;

    assert_non_null(processes);
    host_open(&host, *state, MANY);
    for (int i = 0; i < MANY; i++) {
        write_process(*state, 1000 + i, "RssAnon: 1 kB\n", "0::/\n");
        processes[i] = (struct vm_process){{1000 + i, 100}, VM_PROCESS_QEMU};
        host.machine.vms.vms[i].processes = &processes[i];
        host.machine.vms.vms[i].n_processes = 1;
    }
    for (unsigned read = 0, before = 0; read < MANY; before = read) {
        sample(&host);
        read = 0;
        for (size_t i = 0; i < MANY; i++)
            read += machine_amount(&host.machine, i)->sockets[0].memory_bytes == KB;
        assert_true(read > before);
        calls++;
    }
    /* Some 40 us each in 1 ms per call. */
    assert_in_range(calls, 2, MANY);
    host_deinit(&host);
    free(processes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_processes, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_page_tables, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_large_guest_is_not_walked, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_one_node, setup_one_node, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scope, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scope_v1, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_scope_hybrid, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_huge_pages_in_a_scope, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_groups_made_to_confuse, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_two_vms_in_one_scope, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_vms_come_and_go, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_many_vms_share_the_budget, setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
