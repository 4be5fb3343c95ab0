/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/share_path.h"
#include "discovery/proc_scan.h"
#include "fixture.h"
#include "util/file.h"
#include "util/xml.h"

/*
 * VMs as each hypervisor runs them, from the scan of /proc to name, manager and
 * processes. The command lines are in tests/data/hypervisors, one argument a line.
 */

struct recorded_process {
    int pid;
    const char *executable; /* NULL: a kernel thread */
    const char *comm;
    const char *cmdline; /* '\n' between arguments; NULL: the recorded QEMU's */
    const char *cgroup;
};

struct recorded_vm {
    const char *file;
    const char *name;
    const char *uuid;
    enum vm_manager manager;
    unsigned vcpus;
    size_t n_processes; /* of those below, from the first */
    struct recorded_process processes[5];
};

#define POD                                                                                        \
    "0::/kubepods.slice/kubepods-burstable.slice/"                                                 \
    "kubepods-burstable-pod1c2d3e4f_5061_4273_8495_a6b7c8d9eaf0.slice/"
#define NOVA_SCOPE "0::/machine.slice/machine-qemu\\x2d3\\x2dinstance\\x2d0000002a.scope/libvirt/"
#define RHEL_SCOPE "0::/machine.slice/machine-qemu\\x2d12\\x2drhel9\\x2ddb.scope/libvirt/"

static const struct recorded_vm vms[] = {
    {"proxmox",
     "web01",
     "8b2e8f2e-7a0b-4bd8-9a54-0b1a2c3d4e5f",
     VM_MANAGER_PROXMOX,
     4,
     4,
     {
         {100, "/usr/bin/qemu-system-x86_64", "kvm", NULL, "0::/qemu.slice/100.scope\n"},
         {101, NULL, "vhost-100", "", "0::/\n"},
         /* the hookscript's, and the TPM, both started by a task of pvedaemon */
         {102, "/usr/libexec/virtiofsd", "virtiofsd",
          "/usr/libexec/virtiofsd\n--socket-path=/run/virtjoule-proxmox/100.sock\n--shared-dir\n"
          "/run/virtjoule/vms/8b2e8f2e-7a0b-4bd8-9a54-0b1a2c3d4e5f\n--cache\nnever",
          "0::/system.slice/pvedaemon.service\n"},
         {103, "/usr/bin/swtpm", "swtpm",
          "swtpm\nsocket\n--tpmstate\nbackend-uri=file:///dev/pve/vm-100-disk-1,mode=0600\n"
          "--ctrl\ntype=unixio,path=/var/run/qemu-server/100.swtpm,mode=0600\n--pid\n"
          "file=/var/run/qemu-server/100.swtpm.pid\n--terminate\n--daemon",
          "0::/system.slice/pvedaemon.service\n"},
         /* another VM's */
         {104, "/usr/bin/swtpm", "swtpm",
          "swtpm\nsocket\n--ctrl\ntype=unixio,path=/var/run/qemu-server/101.swtpm,mode=0600",
          "0::/system.slice/pvedaemon.service\n"},
     }},
    {"nova",
     "instance-0000002a",
     "0a6f2c1e-7d52-4c56-9b1e-5a3f0e7d000a",
     VM_MANAGER_LIBVIRT,
     2,
     2,
     {
         {200, "/usr/bin/qemu-system-x86_64", "qemu-system-x86", NULL, NOVA_SCOPE "emulator\n"},
         {201, "/usr/lib/qemu/virtiofsd", "virtiofsd", "/usr/lib/qemu/virtiofsd\n--fd=35",
          NOVA_SCOPE "emulator\n"},
         {202, "/usr/bin/python3.11", "nova-compute", "/usr/bin/python3\n/usr/bin/nova-compute",
          "0::/system.slice/nova-compute.service\n"},
     }},
    {"kubevirt",
     "default_testvm",
     "5a9fc181-957e-5c32-9e5a-2de5e9673531",
     VM_MANAGER_KUBEVIRT,
     1,
     2,
     {
         {300, "/usr/libexec/qemu-kvm", "qemu-kvm", NULL, POD "crio-0a1b2c.scope\n"},
         /* in a container of its own */
         {301, "/usr/libexec/virtiofsd", "virtiofsd",
          "/usr/libexec/virtiofsd\n--socket-path=/var/run/kubevirt/virtiofs-containers/share.sock\n"
          "--shared-dir\n/share\n--sandbox\nnone\n--cache\nauto",
          POD "crio-3d4e5f.scope\n"},
         /* management, in the same pod */
         {302, "/usr/bin/virt-launcher", "virt-launcher", "/usr/bin/virt-launcher\n--name\ntestvm",
          POD "crio-0a1b2c.scope\n"},
         {303, "/usr/sbin/virtqemud", "rpc-virtqemud",
          "/usr/sbin/virtqemud\n-f\n/var/run/libvirt/"
          "virtqemud.conf",
          POD "crio-0a1b2c.scope\n"},
     }},
    {"rhel",
     "rhel9-db",
     "6f0c1d2e-3b4a-4598-8776-655443322110",
     VM_MANAGER_LIBVIRT,
     4,
     3,
     {
         {400, "/usr/libexec/qemu-kvm", "qemu-kvm", NULL, RHEL_SCOPE "emulator\n"},
         {401, "/usr/bin/swtpm", "swtpm",
          "/usr/bin/swtpm\nsocket\n--ctrl\n"
          "type=unixio,path=/run/libvirt/qemu/swtpm/12-rhel9-db-swtpm.sock,mode=0600\n--terminate",
          RHEL_SCOPE "emulator\n"},
         {402, NULL, "vhost-400", "", RHEL_SCOPE "emulator\n"},
     }},
};

static char *read_recorded(const char *name, const char *suffix, size_t *ret_length)
{
    char path[512], *text = NULL;

    snprintf(path, sizeof(path), SOURCE_ROOT "/tests/data/hypervisors/%s%s", name, suffix);
    if (read_file_full(AT_FDCWD, path, 65536, &text, ret_length) < 0)
        fail_msg("%s", path);
    return text;
}

/* One argument a line becomes one argument a NUL. */
static void write_cmdline(const char *root, int pid, char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\n')
            text[i] = '\0';
    fixture_write_bytes(root, text, length, "%d/cmdline", pid);
}

static void start(const char *root, const struct recorded_vm *vm,
                  const struct recorded_process *process)
{
    size_t length = process->cmdline ? strlen(process->cmdline) : 0;
    char *cmdline =
        process->cmdline ? strdup(process->cmdline) : read_recorded(vm->file, ".cmdline", &length);
    char path[512];

    if (process->cmdline && length > 0)
        length++;
    write_cmdline(root, process->pid, cmdline, length);
    free(cmdline);
    fixture_write(root, process->cgroup, "%d/cgroup", process->pid);
    snprintf(path, sizeof(path),
             "%d (%s) S %d 1 1 0 -1 %u 0 0 0 0 1 1 0 0 20 0 1 0 1000 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 "
             "17 0 0 0 0 0 0\n",
             process->pid, process->comm, process->executable ? 1 : 2,
             process->executable ? 0 : 0x00200000U /* PF_KTHREAD */);
    fixture_write(root, path, "%d/stat", process->pid);
    snprintf(path, sizeof(path), "%s/%d/exe", root, process->pid);
    if (process->executable)
        assert_int_equal(symlink(process->executable, path), 0);
}

static void check(const struct vm_table *table, const struct recorded_vm *expected)
{
    const struct vm *vm;
    uuid_t uuid;

    assert_int_equal(uuid_parse(expected->uuid, uuid), 0);
    vm = vm_table_find(table, uuid);
    assert_non_null(vm);
    assert_string_equal(vm->name, expected->name);
    assert_int_equal(vm->manager, expected->manager);
    assert_int_equal(vm->vcpus, expected->vcpus);
    assert_int_equal(vm->n_processes, expected->n_processes);
    assert_int_equal(vm->processes[0].id.pid, expected->processes[0].pid);
    for (size_t i = 0; i < vm->n_processes; i++) {
        pid_t pid = vm->processes[i].id.pid - expected->processes[0].pid;

        assert_in_range(pid, 0, expected->n_processes - 1);
    }
}

static void test_found(void **state)
{
    static const struct vm_uuid_spaces spaces = {.machine = {1}, .boot = {2}};
    const struct process_changes changes = {.all = true};
    struct vm_table table = {0};
    struct proc_scan *scan;
    const char *root = *state;

    for (size_t i = 0; i < ELEMENTS(vms); i++)
        for (size_t k = 0; k < ELEMENTS(vms[i].processes) && vms[i].processes[k].pid; k++)
            start(root, &vms[i], &vms[i].processes[k]);
    assert_int_equal(proc_scan_new(root, &spaces, &scan), 0);
    assert_int_equal(proc_scan_refresh(scan, &changes, &table), 0);
    assert_int_equal(table.n, ELEMENTS(vms));
    for (size_t i = 0; i < ELEMENTS(vms); i++)
        check(&table, &vms[i]);
    vm_table_deinit(&table);
    proc_scan_free(scan);
}

static void assert_content(const xmlNode *element, const char *expected)
{
    xmlChar *content = xmlNodeGetContent(element);

    assert_string_equal((const char *)content, expected);
    xmlFree(content);
}

/* libvirt's own record of the running Nova VM (in /run/libvirt/qemu) says the same of it. */
static void test_runtime_xml(void **state)
{
    const struct recorded_vm *nova = &vms[1];
    char uuid[UUID_TEXT_LENGTH + 1];
    size_t length;
    char *text = read_recorded("nova", "-runtime.xml", &length);
    const xmlNode *domain;
    xmlDoc *document;

    assert_int_equal(xml_parse(text, length, &document), 0);
    domain = xml_child(xmlDocGetRootElement(document), "domain");
    assert_content(xml_child(domain, "name"), nova->name);
    assert_content(xml_child(domain, "uuid"), nova->uuid);
    /* The hook gets the domain of it. */
    assert_true(find_share_uuid(text, length, uuid));
    assert_string_equal(uuid, nova->uuid);
    xmlFreeDoc(document);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_runtime_xml),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
