/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "discovery/proc_scan.h"
#include "discovery/process.h"
#include "discovery/vm_group.h"
#include "fixture.h"

/*
 * The scan over a made-up /proc in a temporary directory.
 */

#define UUID_A "8b2e8f2e-7a0b-4bd8-9a54-0b1a2c3d4e5f"
#define UUID_B "11111111-2222-4333-8444-555555555555"
#define QEMU "/usr/bin/qemu-system-x86_64"

/* More scans than it takes to settle a process, and to examine a settled one again. */
#define MANY_SCANS 40

#define TRUSTED 64055 /* beside root */
#define VCPUS_MAX 4

struct fixture {
    char *root;
    struct proc_scan *scan;
    struct vm_table table;
    int n_unchanged;                  /* scans that found nothing new */
    const struct vm_domains *domains; /* or NULL */
};

/* A made-up process; what is not given is left as of an ordinary one. */
struct fake {
    int pid;
    int parent;
    unsigned start;
    const char *executable; /* NULL: none */
    const char *comm;
    const char *cmdline; /* '|' between arguments */
    const char *cgroup;
    char state;
    unsigned flags;
    unsigned threads;
    unsigned uid, effective, saved; /* effective, saved: 0 for the uid */
};

static void write_cmdline(const struct fixture *f, int pid, const char *arguments)
{
    char text[8192];
    size_t length = strlen(arguments);

    assert_true(length < sizeof(text));
    memcpy(text, arguments, length + 1);
    for (char *p = text; (p = strchr(p, '|')); p++)
        *p = '\0';
    fixture_write_bytes(f->root, text, length > 0 ? length + 1 : 0, "%d/cmdline", pid);
}

static void kill_fake(const struct fixture *f, int pid)
{
    char name[16];

    snprintf(name, sizeof(name), "%d", pid);
    fixture_remove(f->root, name);
}

static void set_executable(const struct fixture *f, int pid, const char *executable)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%d/exe", f->root, pid);
    if (unlink(path) < 0)
        assert_int_equal(errno, ENOENT);
    if (executable)
        assert_int_equal(symlink(executable, path), 0);
}

static void start_fake(const struct fixture *f, const struct fake *fake)
{
    const char *cgroup = fake->cgroup ? fake->cgroup : "0::/user.slice/session-1.scope\n";
    char text[512];

    snprintf(text, sizeof(text),
             "%d (%s) %c %d 1 1 0 -1 %u 0 0 0 0 1 1 0 0 20 0 %u 0 %u 0 0 0 0 0 0 0 0 0 0 "
             "0 0 0 0 0 17 0 0 0 0 0 0\n",
             fake->pid, fake->comm ? fake->comm : "comm", fake->state ? fake->state : 'S',
             fake->parent, fake->flags, fake->threads ? fake->threads : 1,
             fake->start ? fake->start : 1000);
    fixture_write(f->root, text, "%d/stat", fake->pid);
    snprintf(text, sizeof(text), "Name:\tUid:\\n\nUid:\t%u\t%u\t%u\t0\nGid:\t0\t0\t0\t0\n",
             fake->uid, fake->effective ? fake->effective : fake->uid,
             fake->saved ? fake->saved : fake->uid);
    fixture_write(f->root, text, "%d/status", fake->pid);
    write_cmdline(f, fake->pid, fake->cmdline ? fake->cmdline : "");
    fixture_write(f->root, cgroup, "%d/cgroup", fake->pid);
    set_executable(f, fake->pid, fake->executable);
}

static void start_qemu(const struct fixture *f, int pid, unsigned start, const char *cmdline)
{
    start_fake(f,
               &(struct fake){.pid = pid, .start = start, .executable = QEMU, .cmdline = cmdline});
}

static void assert_same_vms(const struct vm_table *a, const struct vm_table *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct vm *x = &a->vms[i], *y = &b->vms[i];

        assert_int_equal(uuid_compare(x->uuid, y->uuid), 0);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->vcpus, y->vcpus);
        assert_int_equal(x->n_processes, y->n_processes);
        for (size_t k = 0; k < x->n_processes; k++) {
            assert_int_equal(x->processes[k].id.pid, y->processes[k].id.pid);
            assert_int_equal(x->processes[k].id.start_ticks, y->processes[k].id.start_ticks);
        }
    }
}

/* Whatever a test does: what the scan calls unchanged is unchanged, but by libvirt. */
static void scan(struct fixture *f)
{
    struct vm_table before = f->table;
    int r = proc_scan_refresh(f->scan, &(struct process_changes){.all = true}, f->domains);

    assert_in_range(r, 0, 1);
    f->table = (struct vm_table){0};
    assert_int_equal(proc_scan_list_vms(f->scan, &f->table), 0);
    if (r == 0 && !f->domains)
        assert_same_vms(&before, &f->table);
    f->n_unchanged += r == 0;
    vm_table_deinit(&before);
    for (size_t i = 0; i < f->table.n; i++) {
        const struct vm *vm = &f->table.vms[i];

        assert_true(vm->running);
        assert_false(vm->defined);
        assert_true(vm->name[0] != '\0');
        assert_true(vm->vcpus >= 1);
        assert_true(vm->n_processes >= 1);
        assert_int_equal(vm->processes[0].role, VM_PROCESS_QEMU);
        assert_false(uuid_is_null(vm->uuid));
        if (i > 0)
            assert_true(uuid_compare(f->table.vms[i - 1].uuid, vm->uuid) < 0);
    }
}

static const struct vm *vm_of_pid(const struct fixture *f, pid_t pid)
{
    for (size_t i = 0; i < f->table.n; i++)
        for (size_t k = 0; k < f->table.vms[i].n_processes; k++)
            if (f->table.vms[i].processes[k].id.pid == pid)
                return &f->table.vms[i];
    return NULL;
}

static const struct vm_process *process_of(const struct vm *vm, pid_t pid)
{
    for (size_t i = 0; i < vm->n_processes; i++)
        if (vm->processes[i].id.pid == pid)
            return &vm->processes[i];
    return NULL;
}

static const struct vm *vm_of_uuid(const struct fixture *f, const char *text)
{
    uuid_t uuid;

    assert_int_equal(uuid_parse(text, uuid), 0);
    return vm_table_find(&f->table, uuid);
}

static void open_scan(struct fixture *f, unsigned untrusted_vms)
{
    const struct proc_scan_config config = {
        .proc_root = f->root,
        .spaces = {.machine = {1}, .boot = {2}},
        .owners = {.uids = {0, TRUSTED}, .n = 2},
        .untrusted_vms = untrusted_vms,
        .vcpus_max = VCPUS_MAX,
    };

    proc_scan_free(f->scan);
    assert_int_equal(proc_scan_new(&config, &f->scan), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    assert_int_equal(fixture_setup((void **)&f->root), 0);
    open_scan(f, 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    vm_table_deinit(&f->table);
    assert_null(proc_scan_free(f->scan));
    fixture_teardown((void **)&f->root);
    free(f);
    return 0;
}

static void test_what_is_a_vm(void **state)
{
    struct fixture *f = *state;
    const struct vm *vm;

    start_qemu(f, 10, 500, "qemu-system-x86_64|-name|guest=a|-uuid|" UUID_A "|-smp|3");
    start_fake(f, &(struct fake){.pid = 11,
                                 .executable = "/usr/libexec/qemu-kvm (deleted)",
                                 .cmdline = "/usr/libexec/qemu-kvm|-uuid|" UUID_B});
    /* A script, an editor and tools that mention QEMU. */
    start_fake(f, &(struct fake){.pid = 20,
                                 .executable = "/usr/bin/bash",
                                 .comm = "qemu-system-x86",
                                 .cmdline = "/bin/sh|/usr/local/bin/qemu-system-x86_64|-name|s"});
    start_fake(f, &(struct fake){.pid = 21,
                                 .executable = "/usr/bin/vim",
                                 .cmdline = "qemu-system-x86_64|-name|x"});
    start_fake(f, &(struct fake){.pid = 22,
                                 .executable = "/usr/bin/qemu-img",
                                 .cmdline = "qemu-img|convert|-name|x"});
    start_fake(f, &(struct fake){.pid = 23, .executable = QEMU, .cmdline = "qemu|-M|none"});
    start_fake(f, &(struct fake){.pid = 24, .state = 'Z', .cmdline = "qemu-system-x86_64"});
    start_fake(f, &(struct fake){.pid = 25, .executable = QEMU, .state = 'Z', .cmdline = "q"});
    /* A kernel thread has no executable; its name proves nothing. */
    start_fake(f, &(struct fake){.pid = 26, .comm = "qemu-kvm", .flags = 0x200000});

    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        assert_int_equal(f->table.n, 2);
    }
    vm = vm_of_uuid(f, UUID_A);
    assert_non_null(vm);
    assert_string_equal(vm->name, "a");
    assert_int_equal(vm->vcpus, 3);
    assert_int_equal(vm->n_processes, 1);
    assert_int_equal(vm->processes[0].id.pid, 10);
    assert_int_equal(vm->processes[0].id.start_ticks, 500);
    assert_non_null(vm_of_uuid(f, UUID_B));
    assert_string_equal(vm_of_uuid(f, UUID_B)->name, "qemu-11");
}

static void test_broken_processes(void **state)
{
    struct fixture *f = *state;
    char path[128];

    start_qemu(f, 10, 500, "q|-uuid|" UUID_A);
    /* Died after it was listed, or while it was read: some files are there, some not. */
    for (int pid = 30; pid < 34; pid++)
        start_qemu(f, pid, 500, "q|-name|x");
    snprintf(path, sizeof(path), "%s/30/stat", f->root);
    assert_int_equal(unlink(path), 0);
    fixture_write(f->root, "", "31/stat");
    fixture_write(f->root, "garbage\n", "32/stat");
    snprintf(path, sizeof(path), "%s/33/cmdline", f->root);
    assert_int_equal(unlink(path), 0);
    /* No process at all. */
    snprintf(path, sizeof(path), "%s/99999999999", f->root);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/self", f->root);
    assert_int_equal(symlink("10", path), 0);

    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        assert_int_equal(f->table.n, 1);
    }
    kill_fake(f, 10);
    scan(f);
    assert_int_equal(f->table.n, 0);
}

static void test_exec_later(void **state)
{
    struct fixture *f = *state;

    start_fake(
        f, &(struct fake){
               .pid = 10, .start = 500, .executable = "/usr/sbin/libvirtd", .cmdline = "libvirtd"});
    for (int i = 0; i < MANY_SCANS; i++)
        scan(f);
    assert_int_equal(f->table.n, 0);
    /* It is seen at the next scan, not when its turn comes. */
    start_qemu(f, 10, 500, "q|-uuid|" UUID_A);
    scan(f);
    assert_non_null(vm_of_uuid(f, UUID_A));
    /* And back: QEMU may exec as well. */
    start_fake(f,
               &(struct fake){
                   .pid = 10, .start = 500, .executable = "/usr/bin/sleep", .cmdline = "sleep|9"});
    scan(f);
    assert_int_equal(f->table.n, 0);
}

/* In the middle of its exec the command line is empty. */
static void test_exec_under_way(void **state)
{
    struct fixture *f = *state;

    start_qemu(f, 10, 500, "");
    scan(f);
    assert_int_equal(f->table.n, 0);
    write_cmdline(f, 10, "q|-uuid|" UUID_A);
    scan(f);
    assert_int_equal(f->table.n, 1);
}

static void test_pid_reuse(void **state)
{
    struct fixture *f = *state;

    start_qemu(f, 10, 500, "q|-name|a|-uuid|" UUID_A);
    scan(f);
    assert_non_null(vm_of_uuid(f, UUID_A));
    /* Within one interval the PID is another VM's. */
    start_qemu(f, 10, 900, "q|-name|b|-uuid|" UUID_B);
    scan(f);
    assert_null(vm_of_uuid(f, UUID_A));
    assert_non_null(vm_of_uuid(f, UUID_B));
    assert_int_equal(vm_of_uuid(f, UUID_B)->processes[0].id.start_ticks, 900);
    /* And a QEMU's that runs no VM, then a VM's again. */
    start_qemu(f, 10, 950, "q|-version");
    for (int i = 0; i < MANY_SCANS; i++)
        scan(f);
    assert_int_equal(f->table.n, 0);
    start_qemu(f, 10, 999, "q|-uuid|" UUID_A);
    scan(f);
    assert_non_null(vm_of_uuid(f, UUID_A));
}

/* Which VM a process belongs to is not read again while it lives; a zombie is no VM. */
static void test_end(void **state)
{
    struct fixture *f = *state;

    start_qemu(f, 10, 500, "q|-uuid|" UUID_A);
    scan(f);
    write_cmdline(f, 10, "q|-uuid|" UUID_B);
    for (int i = 0; i < MANY_SCANS; i++)
        scan(f);
    assert_non_null(vm_of_uuid(f, UUID_A));
    start_fake(f, &(struct fake){.pid = 10, .start = 500, .state = 'Z'});
    scan(f);
    assert_int_equal(f->table.n, 0);
}

static void test_derived_uuids(void **state)
{
    struct fixture *f = *state;
    uuid_t a, again, id, unnamed;

    start_qemu(f, 10, 500, "q|-name|a");
    start_qemu(f, 11, 500, "kvm|-id|100|-name|a");
    start_qemu(f, 12, 500, "q|-m|1");
    scan(f);
    assert_int_equal(f->table.n, 3);
    uuid_copy(a, vm_of_pid(f, 10)->uuid);
    uuid_copy(id, vm_of_pid(f, 11)->uuid);
    uuid_copy(unnamed, vm_of_pid(f, 12)->uuid);
    assert_int_equal(uuid_type(a), 5);
    assert_string_equal(vm_of_pid(f, 12)->name, "qemu-12");
    assert_int_equal(vm_of_pid(f, 11)->manager, VM_MANAGER_PROXMOX);

    /* Started again: the name and the id have their UUIDs again, the unnamed is another VM. */
    for (int pid = 10; pid <= 12; pid++)
        kill_fake(f, pid);
    scan(f);
    start_qemu(f, 20, 800, "q|-name|a");
    start_qemu(f, 21, 800, "kvm|-id|100|-name|renamed");
    start_qemu(f, 22, 800, "q|-m|1");
    start_qemu(f, 23, 800, "q|-id|7");
    scan(f);
    uuid_copy(again, vm_of_pid(f, 20)->uuid);
    assert_int_equal(uuid_compare(a, again), 0);
    assert_int_equal(uuid_compare(id, vm_of_pid(f, 21)->uuid), 0);
    assert_true(uuid_compare(unnamed, vm_of_pid(f, 22)->uuid) != 0);
    assert_string_equal(vm_of_pid(f, 23)->name, "vm-7");
}

/* Two living VMs of one name are two VMs, and neither takes the other's UUID. */
static void test_one_name_twice(void **state)
{
    struct fixture *f = *state;
    uuid_t older, younger;

    start_qemu(f, 30, 500, "q|-name|a");
    start_qemu(f, 20, 600, "q|-name|a");
    scan(f);
    assert_int_equal(f->table.n, 2);
    uuid_copy(older, vm_of_pid(f, 30)->uuid);
    uuid_copy(younger, vm_of_pid(f, 20)->uuid);

    /* The younger alone keeps its own; one that comes then has the name's UUID. */
    kill_fake(f, 30);
    scan(f);
    assert_int_equal(uuid_compare(younger, vm_of_pid(f, 20)->uuid), 0);
    start_qemu(f, 40, 700, "q|-name|a");
    start_qemu(f, 41, 700, "q|-name|a");
    scan(f);
    assert_int_equal(f->table.n, 3);
    assert_int_equal(uuid_compare(older, vm_of_pid(f, 40)->uuid), 0);

    /* The package is upgraded under it: the link's text changes, the VM does not. */
    set_executable(f, 20, QEMU " (deleted)");
    scan(f);
    assert_int_equal(uuid_compare(younger, vm_of_pid(f, 20)->uuid), 0);
}

/* The older one has the name's UUID also when both are new, whatever their PIDs. */
static void test_older_first(void **state)
{
    struct fixture *f = *state;
    uuid_t first;

    start_qemu(f, 30, 500, "q|-name|a");
    scan(f);
    uuid_copy(first, vm_of_pid(f, 30)->uuid);
    kill_fake(f, 30);
    scan(f);
    start_qemu(f, 50, 800, "q|-name|a");
    start_qemu(f, 40, 900, "q|-name|a");
    scan(f);
    assert_int_equal(uuid_compare(first, vm_of_pid(f, 50)->uuid), 0);
}

/* A clone, or a restored copy: two VMs, of which the older one has the UUID. */
static void test_one_uuid_twice(void **state)
{
    struct fixture *f = *state;
    uuid_t clone;

    start_qemu(f, 30, 600, "q|-name|young|-uuid|" UUID_A);
    start_qemu(f, 31, 500, "q|-name|old|-uuid|" UUID_A);
    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        assert_int_equal(f->table.n, 2);
        assert_string_equal(vm_of_uuid(f, UUID_A)->name, "old");
        assert_int_equal(vm_of_uuid(f, UUID_A)->n_processes, 1);
        assert_string_equal(vm_of_pid(f, 30)->name, "young");
        if (i == 0)
            uuid_copy(clone, vm_of_pid(f, 30)->uuid);
        assert_int_equal(uuid_compare(clone, vm_of_pid(f, 30)->uuid), 0);
    }
    /* One that comes later is a third one, and the first to end leaves its UUID to a new one only.
     */
    start_qemu(f, 10, 900, "q|-name|third|-uuid|" UUID_A);
    scan(f);
    assert_int_equal(f->table.n, 3);
    kill_fake(f, 31);
    scan(f);
    assert_null(vm_of_uuid(f, UUID_A));
    assert_int_equal(uuid_compare(clone, vm_of_pid(f, 30)->uuid), 0);
    start_qemu(f, 40, 950, "q|-name|old|-uuid|" UUID_A);
    scan(f);
    assert_ptr_equal(vm_of_uuid(f, UUID_A), vm_of_pid(f, 40));
}

static pid_t domain_pid; /* libvirt's process, of whatever domain; 0: none is known */

static bool is_domains(const struct vm_domains *domains, const uuid_t uuid,
                       const struct process *process)
{
    return process->id.pid == domain_pid;
}

/* Where libvirt runs one of them, it has the UUID, whatever their ages and whenever libvirt tells.
 */
static void test_one_uuid_twice_libvirt(void **state)
{
    static const struct vm_domains domains = {is_domains};
    struct fixture *f = *state;
    uuid_t own;

    f->domains = &domains;
    domain_pid = 0;
    start_qemu(f, 30, 500, "q|-name|copy|-uuid|" UUID_A);
    start_fake(f, &(struct fake){.pid = 31, /* the copy's child */
                                 .parent = 30,
                                 .start = 501,
                                 .executable = QEMU,
                                 .cmdline = "q|-name|copy|-uuid|" UUID_A});
    start_qemu(f, 40, 600, "q|-name|vm|-uuid|" UUID_A);
    start_fake(f, &(struct fake){.pid = 41, /* the VM's child */
                                 .parent = 40,
                                 .start = 601,
                                 .executable = QEMU,
                                 .cmdline = "q|-name|vm|-uuid|" UUID_A});
    scan(f);
    assert_int_equal(f->table.n, 2);
    assert_ptr_equal(vm_of_uuid(f, UUID_A), vm_of_pid(f, 30));
    domain_pid = 40;
    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        assert_int_equal(f->table.n, 2);
        for (int pid = 40; pid <= 41; pid++)
            assert_ptr_equal(vm_of_uuid(f, UUID_A), vm_of_pid(f, pid));
        assert_ptr_equal(vm_of_pid(f, 30), vm_of_pid(f, 31));
        if (i == 0)
            uuid_copy(own, vm_of_pid(f, 30)->uuid);
        assert_int_equal(uuid_compare(own, vm_of_pid(f, 30)->uuid), 0);
    }
    kill_fake(f, 40);
    kill_fake(f, 41);
    scan(f);
    assert_int_equal(uuid_compare(own, vm_of_pid(f, 30)->uuid), 0);
}

/* QEMU forks: its child is no second VM of that name, also when the parent ends. */
static void test_forked_qemu(void **state)
{
    struct fixture *f = *state;
    uuid_t uuid;

    for (int pid = 10; pid <= 12; pid++)
        start_fake(f, &(struct fake){.pid = pid,
                                     .parent = pid - 1,
                                     .start = 490 + (unsigned)pid,
                                     .executable = QEMU,
                                     .cmdline = "q|-name|a"});
    start_fake(
        f, &(struct fake){
               .pid = 13, .parent = 12, .start = 600, .executable = QEMU, .cmdline = "q|-name|b"});
    scan(f);
    assert_int_equal(f->table.n, 2);
    assert_ptr_equal(vm_of_pid(f, 10), vm_of_pid(f, 12));
    assert_true(vm_of_pid(f, 13) != vm_of_pid(f, 12));
    uuid_copy(uuid, vm_of_pid(f, 10)->uuid);
    kill_fake(f, 10);
    scan(f);
    assert_int_equal(uuid_compare(uuid, vm_of_pid(f, 12)->uuid), 0);
    /* A younger child of the one that is left. */
    start_fake(
        f, &(struct fake){
               .pid = 9, .parent = 12, .start = 700, .executable = QEMU, .cmdline = "q|-name|a"});
    scan(f);
    assert_ptr_equal(vm_of_pid(f, 9), vm_of_pid(f, 12));
}

/* Parents in a circle, as no kernel tells them. */
static void test_circle_of_parents(void **state)
{
    struct fixture *f = *state;

    for (int pid = 10; pid <= 12; pid++)
        start_fake(f, &(struct fake){.pid = pid,
                                     .parent = pid == 12 ? 10 : pid + 1,
                                     .start = 500,
                                     .executable = QEMU,
                                     .cmdline = "q|-name|a"});
    start_fake(
        f, &(struct fake){
               .pid = 13, .parent = 13, .start = 500, .executable = QEMU, .cmdline = "q|-name|b"});
    scan(f);
    for (int pid = 10; pid <= 13; pid++)
        assert_non_null(vm_of_pid(f, pid));
}

static void test_hostile_names(void **state)
{
    struct fixture *f = *state;
    char cmdline[6000] = "q|-name|";
    const struct vm *vm;

    memset(cmdline + strlen(cmdline), 'n', 4096);
    start_qemu(f, 10, 500, cmdline);
    start_qemu(f, 11, 500, "q|-name|../../etc");
    start_qemu(f, 12, 500, "q|-name|line\n\"quoted\"\xff");
    start_qemu(f, 13, 500, "q|-name|guest=a,,b=c");
    start_qemu(f, 14, 500, "q|-name|");
    scan(f);
    assert_int_equal(f->table.n, 5);
    vm = vm_of_pid(f, 10);
    assert_int_equal(strnlen(vm->name, sizeof(vm->name)), VM_NAME_MAX - 1);
    assert_string_equal(vm_of_pid(f, 11)->name, "../../etc");
    assert_string_equal(vm_of_pid(f, 12)->name, "line\n\"quoted\"\xff");
    assert_string_equal(vm_of_pid(f, 13)->name, "a,b=c");
    assert_string_equal(vm_of_pid(f, 14)->name, "qemu-14");
}

#define SCOPE_A "0::/machine.slice/machine-qemu\\x2d1\\x2da.scope/libvirt/"
#define SCOPE_B "0::/machine.slice/machine-qemu\\x2d2\\x2db.scope/libvirt/"

static void test_helpers_by_cgroup(void **state)
{
    static const struct {
        const char *a;
        const char *b;
    } cases[] = {
        {SCOPE_A "emulator\n", SCOPE_B "emulator\n"},
        {"3:cpu:/machine/qemu-1-a.libvirt-qemu/emulator\n0::/\n",
         "3:cpu:/machine/qemu-2-b.libvirt-qemu/emulator\n0::/\n"},
        {"9:name=systemd:/\n1:cpu:/\n0::/machine/qemu-1-a.libvirt-qemu/emulator\n",
         "9:name=systemd:/\n1:cpu:/\n0::/machine/qemu-2-b.libvirt-qemu/emulator\n"},
        {"0::/qemu.slice/100.scope\n", "0::/qemu.slice/101.scope\n"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        const struct vm *vm;
        int base = 100 * (int)(i + 1);

        start_fake(f, &(struct fake){.pid = base + 1,
                                     .executable = QEMU,
                                     .cgroup = cases[i].a,
                                     .cmdline = "q|-uuid|" UUID_A});
        start_fake(f, &(struct fake){.pid = base + 2,
                                     .executable = QEMU,
                                     .cgroup = cases[i].b,
                                     .cmdline = "q|-uuid|" UUID_B});
        start_fake(f, &(struct fake){.pid = base,
                                     .executable = "/usr/lib/qemu/virtiofsd",
                                     .cgroup = cases[i].a,
                                     .cmdline = "virtiofsd|--fd=30"});
        start_fake(f, &(struct fake){.pid = base + 3,
                                     .executable = "/usr/bin/passt",
                                     .cgroup = cases[i].b,
                                     .cmdline = "passt"});
        start_fake(
            f, &(struct fake){.pid = base + 4, .executable = "/usr/bin/passt", .cmdline = "passt"});
        scan(f);
        vm = vm_of_uuid(f, UUID_A);
        assert_int_equal(vm->n_processes, 2);
        assert_int_equal(process_of(vm, base)->role, VM_PROCESS_HELPER);
        vm = vm_of_uuid(f, UUID_B);
        assert_int_equal(vm->n_processes, 2);
        assert_int_equal(process_of(vm, base + 3)->role, VM_PROCESS_HELPER);
        assert_null(vm_of_pid(f, base + 4));
        for (int pid = base; pid < base + 5; pid++)
            kill_fake(f, pid);
    }
}

static void test_helpers_by_socket(void **state)
{
    struct fixture *f = *state;
    const struct vm *vm;

    start_qemu(f, 10, 500,
               "q|-uuid|" UUID_A "|-chardev|socket,id=c,path=/run/fs.sock|-chardev|"
               "socket,path=/run/tpm.sock");
    start_qemu(f, 11, 500, "q|-uuid|" UUID_B "|-chardev|socket,id=c,path=/run/other.sock");
    start_fake(f, &(struct fake){.pid = 20,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    start_fake(f, &(struct fake){.pid = 21,
                                 .executable = "/usr/bin/swtpm",
                                 .cmdline = "swtpm|socket|--ctrl|type=unixio,path=/run/tpm.sock"});
    start_fake(f, &(struct fake){.pid = 22,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock2"});
    start_fake(f, &(struct fake){.pid = 23,
                                 .executable = "/usr/bin/vim",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        vm = vm_of_uuid(f, UUID_A);
        assert_int_equal(vm->n_processes, 3);
        assert_non_null(process_of(vm, 20));
        assert_non_null(process_of(vm, 21));
        assert_int_equal(vm_of_uuid(f, UUID_B)->n_processes, 1);
    }
    /* Examined again and again, the helpers are the same. */
    assert_int_equal(f->n_unchanged, MANY_SCANS - 1);
    /* The PID goes to the other VM's virtiofsd. */
    start_fake(f, &(struct fake){.pid = 20,
                                 .start = 2000,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/other.sock"});
    scan(f);
    assert_non_null(process_of(vm_of_uuid(f, UUID_B), 20));
}

/* The helpers on a VM's first sockets are found, however many others its command line names. */
static void test_many_sockets(void **state)
{
    struct fixture *f = *state;
    char cmdline[QEMU_SOCKETS_MAX * 64 + 256] = "q|-uuid|" UUID_A;
    size_t length = strlen(cmdline);

    for (int i = 0; i < QEMU_SOCKETS_MAX + 2; i++)
        length += (size_t)snprintf(cmdline + length, sizeof(cmdline) - length,
                                   "|-chardev|socket,path=/run/%d.sock", i);
    start_qemu(f, 10, 500, cmdline);
    for (int i = QEMU_SOCKETS_MAX - 1; i <= QEMU_SOCKETS_MAX; i++) {
        char helper[64];

        snprintf(helper, sizeof(helper), "virtiofsd|--socket-path=/run/%d.sock", i);
        start_fake(f, &(struct fake){.pid = 1000 + i,
                                     .executable = "/usr/libexec/virtiofsd",
                                     .cmdline = helper});
    }
    scan(f);
    assert_int_equal(vm_of_uuid(f, UUID_A)->n_processes, 2);
    assert_non_null(process_of(vm_of_uuid(f, UUID_A), 1000 + QEMU_SOCKETS_MAX - 1));
    assert_int_equal(f->table.excess.sockets, 2);
    assert_int_equal(f->table.excess.pid, 10);
}

/* A flood of VMs leaves those alone that ran before. */
static void test_too_many_vms(void **state)
{
    enum { N = VMS_MAX + 3 };
    struct process *processes = calloc(N, sizeof(*processes));
    struct qemu_cmdline cmdline = {.name = "one of many"};
    struct vm_table table;
    const char *shared;

    /* The order of PIDs and UUIDs says nothing about age: the youngest are in the middle. */
    for (int i = 0; i < N; i++) {
        processes[i] = (struct process){
            .id = {i + 1, i >= 1000 && i < 1003 ? 2000 : 1000},
            .kind = PROCESS_QEMU,
            .cmdline = &cmdline,
            .vcpus = 1,
            .uuid = {[14] = (unsigned char)(i >> 8), [15] = (unsigned char)i, [0] = 1},
        };
    }
    assert_int_equal(vm_group_processes(processes, N, &table, &shared), 0);
    assert_int_equal(table.n, VMS_MAX);
    assert_int_equal(table.excess.vms, 3);
    for (int i = 0; i < N; i++)
        assert_int_equal(!vm_table_find(&table, processes[i].uuid), i >= 1000 && i < 1003);
    vm_table_deinit(&table);
    free(processes);
}

/* libvirt moves a helper to the VM's group after its start, and then starts QEMU. */
static void test_helper_moved(void **state)
{
    struct fixture *f = *state;
    struct fake helper = {.pid = 10, .executable = "/usr/bin/passt", .cmdline = "passt"};
    int scans = 0;

    start_fake(f, &helper);
    start_fake(f, &(struct fake){.pid = 11,
                                 .executable = QEMU,
                                 .cgroup = SCOPE_A "emulator\n",
                                 .cmdline = "q|-uuid|" UUID_A});
    scan(f);
    scan(f);
    assert_null(vm_of_pid(f, 10));
    helper.cgroup = SCOPE_A "emulator\n";
    start_fake(f, &helper);
    scan(f);
    assert_non_null(vm_of_pid(f, 10));
    /* An old process is looked at again as well, if later. */
    helper.cgroup = NULL;
    start_fake(f, &helper);
    for (; vm_of_pid(f, 10); scans++) {
        assert_true(scans < MANY_SCANS);
        scan(f);
    }
}

static void test_kubevirt(void **state)
{
    static const char pod_a[] = "0::/kubepods.slice/kubepods-burstable.slice/"
                                "kubepods-burstable-podaa.slice/cri-1.scope\n";
    static const char pod_a2[] = "0::/kubepods.slice/kubepods-burstable.slice/"
                                 "kubepods-burstable-podaa.slice/cri-2.scope\n";
    static const char pod_b[] = "0::/kubepods.slice/kubepods-podbb.slice/cri-3.scope\n";
    struct fixture *f = *state;
    const struct vm *vm;

    start_fake(f, &(struct fake){.pid = 10,
                                 .executable = "/usr/libexec/qemu-kvm",
                                 .cgroup = pod_a,
                                 .cmdline = "/usr/libexec/qemu-kvm|-name|"
                                            "guest=default_vm,debug-threads=on|-uuid|" UUID_A});
    start_fake(f, &(struct fake){.pid = 11,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cgroup = pod_a2,
                                 .cmdline = "virtiofsd"});
    start_fake(f, &(struct fake){.pid = 12,
                                 .executable = "/usr/sbin/virtqemud",
                                 .cgroup = pod_a,
                                 .cmdline = "virtqemud"});
    start_fake(f, &(struct fake){.pid = 13,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cgroup = pod_b,
                                 .cmdline = "virtiofsd"});
    scan(f);
    assert_int_equal(f->table.n, 1);
    vm = &f->table.vms[0];
    assert_int_equal(vm->manager, VM_MANAGER_KUBEVIRT);
    assert_int_equal(vm->n_processes, 2);
    assert_non_null(process_of(vm, 11));
}

static void test_vhost(void **state)
{
    static const struct {
        int pid;
        const char *comm;
        unsigned flags;
    } others[] = {
        {31, "vhost-11", 0x200000}, /* not QEMU's */
        {32, "vhost-99", 0x200000}, /* nobody's */
        {33, "vhost-", 0x200000},
        {34, "vhost-10x", 0x200000},
        {35, "vhost-99999999999999999999", 0x200000},
        {36, "vhost-10", 0}, /* called so, but no kernel thread */
    };
    struct fixture *f = *state;
    const struct vm *vm;

    start_qemu(f, 10, 500, "q|-uuid|" UUID_A);
    start_fake(f, &(struct fake){.pid = 11, .executable = "/usr/bin/vim", .cmdline = "vim"});
    start_fake(f, &(struct fake){.pid = 30, .comm = "vhost-10", .flags = 0x200000 | 0x40});
    for (size_t i = 0; i < ELEMENTS(others); i++)
        start_fake(f, &(struct fake){
                          .pid = others[i].pid, .comm = others[i].comm, .flags = others[i].flags});
    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        vm = vm_of_uuid(f, UUID_A);
        assert_int_equal(vm->n_processes, 2);
        assert_int_equal(process_of(vm, 30)->role, VM_PROCESS_HELPER);
    }
    kill_fake(f, 10);
    scan(f);
    assert_int_equal(f->table.n, 0);
}

/* A QEMU process with that many vCPU threads, and one that is none. */
static void name_vcpus(const struct fixture *f, int pid, unsigned n)
{
    start_fake(f, &(struct fake){.pid = pid,
                                 .executable = QEMU,
                                 .cmdline = "q|-uuid|" UUID_A "|-smp|2,maxcpus=3",
                                 .threads = n + 1});
    fixture_write(f->root, "CPU 0/KVM\n", "%d/comm", pid); /* of the process, no thread's */
    fixture_write(f->root, "worker\n", "%d/task/%d/comm", pid, pid);
    for (unsigned i = 0; i < n; i++) {
        char comm[32];

        snprintf(comm, sizeof(comm), "CPU %u/KVM\n", i);
        fixture_write(f->root, comm, "%d/task/%d/comm", pid, pid + 1 + (int)i);
    }
}

static void test_vcpus_plugged(void **state)
{
    static const unsigned counts[] = {2, 3, 1};
    struct fixture *f = *state;

    for (size_t i = 0; i < ELEMENTS(counts); i++) {
        if (i > 0)
            kill_fake(f, 10);
        name_vcpus(f, 10, counts[i]);
        scan(f);
        assert_int_equal(vm_of_uuid(f, UUID_A)->vcpus, counts[i]);
    }
    /* As many threads as before: found later. */
    fixture_write(f->root, "CPU 1/KVM\n", "10/task/10/comm");
    for (int i = 0; i < MANY_SCANS; i++)
        scan(f);
    assert_int_equal(vm_of_uuid(f, UUID_A)->vcpus, 2);
    /* QEMU without debug-threads: as the command line says. */
    kill_fake(f, 10);
    name_vcpus(f, 10, 0);
    scan(f);
    assert_int_equal(vm_of_uuid(f, UUID_A)->vcpus, 2);
}

/* The command line's number, where no threads show, is not believed beyond what the host can run.
 */
static void test_vcpus_claimed(void **state)
{
    struct fixture *f = *state;

    start_qemu(f, 10, 500, "q|-uuid|" UUID_A "|-smp|65535");
    start_qemu(f, 11, 500, "q|-uuid|" UUID_B "|-smp|3");
    scan(f);
    assert_int_equal(vm_of_uuid(f, UUID_A)->vcpus, VCPUS_MAX);
    assert_int_equal(vm_of_uuid(f, UUID_B)->vcpus, 3);
    kill_fake(f, 10);
    name_vcpus(f, 10, VCPUS_MAX + 2); /* more than the host's are allowed, where they are there */
    scan(f);
    assert_int_equal(vm_of_uuid(f, UUID_A)->vcpus, VCPUS_MAX + 2);
}

#define STRANGER 1000
#define OTHER_STRANGER 1001
#define USER_SCOPE                                                                                 \
    "0::/user.slice/user-1000.slice/machine-qemu\\x2d1\\x2da.scope/libvirt/emulator\n"

/* Whose processes they are decides, whatever they say of themselves. */
static void test_owners(void **state)
{
    static const struct fake others[] = {
        {.pid = 20, .uid = STRANGER},
        {.pid = 21, .uid = 65534},
        /* Set-user-id, in each direction. */
        {.pid = 22, .uid = STRANGER, .effective = TRUSTED, .saved = TRUSTED},
        {.pid = 23, .uid = TRUSTED, .effective = STRANGER, .saved = TRUSTED},
        {.pid = 24, .uid = TRUSTED, .effective = TRUSTED, .saved = STRANGER},
        /* Groups that a user can make. */
        {.pid = 25, .uid = STRANGER, .cgroup = USER_SCOPE},
        {.pid = 26, .uid = STRANGER, .cgroup = "0::/x.service/qemu-1-a.libvirt-qemu\n"},
        {.pid = 27, .uid = STRANGER, .cgroup = "0::/kubepods.slice/kubepods-podaa.slice/c.scope\n"},
        {.pid = 28, .uid = 4294967295U},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ELEMENTS(others); i++) {
        struct fake fake = others[i];

        fake.executable = QEMU;
        fake.cmdline = "q|-name|guest=a|-uuid|" UUID_A "|-chardev|socket,id=c,path=/run/fs.sock";
        fake.start = 100;
        start_fake(f, &fake);
    }
    start_fake(f, &(struct fake){.pid = 10,
                                 .uid = TRUSTED,
                                 .start = 500,
                                 .executable = QEMU,
                                 .cmdline = "q|-name|guest=a|-uuid|" UUID_A
                                            "|-chardev|socket,id=c,path=/run/fs.sock"});
    /* A scope of the service manager's says as much as its owner. */
    start_fake(f, &(struct fake){.pid = 11,
                                 .uid = STRANGER,
                                 .executable = QEMU,
                                 .cgroup = SCOPE_B "emulator\n",
                                 .cmdline = "q|-uuid|" UUID_B});
    /* Helpers: the VM's, a stranger's, and swtpm's user in the scope. */
    start_fake(f, &(struct fake){.pid = 30,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    start_fake(f, &(struct fake){.pid = 31,
                                 .uid = STRANGER,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    start_fake(f, &(struct fake){.pid = 32,
                                 .uid = 59,
                                 .executable = "/usr/bin/swtpm",
                                 .cgroup = SCOPE_B "emulator\n",
                                 .cmdline = "swtpm|socket"});
    for (int i = 0; i < MANY_SCANS; i++) {
        const struct vm *vm;

        scan(f);
        assert_int_equal(f->table.n, 2);
        vm = vm_of_uuid(f, UUID_A);
        assert_string_equal(vm->name, "a");
        assert_true(vm->trusted);
        assert_int_equal(vm->n_processes, 2);
        assert_int_equal(vm->processes[0].id.pid, 10);
        assert_non_null(process_of(vm, 30));
        assert_int_equal(vm_of_uuid(f, UUID_B)->n_processes, 2);
        assert_non_null(process_of(vm_of_uuid(f, UUID_B), 32));
    }
}

/* Without the text that tells the owner, nothing is known of the process. */
static void test_owner_unknown(void **state)
{
    static const char *const texts[] = {"", "Uid:\n", "Name:\tq\nUid:\t0\t0", "Uid:\t0\t0\tx\t0\n"};
    struct fixture *f = *state;

    start_qemu(f, 10, 500, "q|-uuid|" UUID_A);
    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        fixture_write(f->root, texts[i], "10/status");
        scan(f);
        assert_int_equal(f->table.n, 0);
    }
    fixture_write(f->root, "Uid:\t0\t0\t0\t0\n", "10/status");
    for (int i = 0; i < MANY_SCANS; i++)
        scan(f);
    assert_int_equal(f->table.n, 1);
}

static void start_stranger(const struct fixture *f, int pid, unsigned uid, unsigned start,
                           const char *cmdline)
{
    start_fake(f,
               &(struct fake){
                   .pid = pid, .uid = uid, .start = start, .executable = QEMU, .cmdline = cmdline});
}

/* With untrusted_vms there are VMs of other owners: each owner's in a space of its own. */
static void test_untrusted_vms(void **state)
{
    struct fixture *f = *state;
    const struct vm *vm;
    uuid_t uuid, own;

    open_scan(f, 2);
    start_qemu(f, 10, 500, "q|-name|a|-uuid|" UUID_A "|-chardev|socket,id=c,path=/run/fs.sock");
    start_fake(f, &(struct fake){.pid = 11,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    start_stranger(f, 30, STRANGER, 100,
                   "q|-name|a|-uuid|" UUID_A "|-smp|65535|-chardev|socket,id=c,path=/run/fs.sock");
    start_stranger(f, 31, STRANGER, 200, "q|-name|b");
    start_stranger(f, 32, OTHER_STRANGER, 200, "q|-name|b");
    start_stranger(f, 29, STRANGER, 900, "q|-name|c"); /* one too many */
    start_stranger(f, 33, STRANGER, 900, "q|-name|c"); /* one too many */
    start_fake(f, &(struct fake){.pid = 35,
                                 .uid = STRANGER,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    start_fake(f, &(struct fake){.pid = 36,
                                 .uid = OTHER_STRANGER,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    kill_fake(f, 29); /* it came later */
    for (int i = 0; i < MANY_SCANS; i++) {
        scan(f);
        assert_int_equal(f->table.n, 4);
        vm = vm_of_uuid(f, UUID_A);
        assert_string_equal(vm->name, "a");
        assert_int_equal(vm->n_processes, 2);
        assert_non_null(process_of(vm, 11));
        vm = vm_of_pid(f, 30);
        assert_string_equal(vm->name, "uid1000/a");
        assert_false(vm->trusted);
        assert_int_equal(vm->vcpus, 1); /* no threads show */
        assert_int_equal(vm->n_processes, 2);
        assert_non_null(process_of(vm, 35));
        assert_string_equal(vm_of_pid(f, 32)->name, "uid1001/b");
        assert_true(uuid_compare(vm_of_pid(f, 31)->uuid, vm_of_pid(f, 32)->uuid) != 0);
        assert_null(vm_of_pid(f, 33));
        assert_null(vm_of_pid(f, 36));
        start_stranger(f, 29, STRANGER, 900, "q|-name|c");
    }
    /* Its UUID is the same when it starts again, and a trusted VM's is never the same. */
    uuid_copy(uuid, vm_of_pid(f, 31)->uuid);
    kill_fake(f, 31);
    kill_fake(f, 29);
    kill_fake(f, 33);
    scan(f);
    start_qemu(f, 40, 950, "q|-name|b");
    start_stranger(f, 41, STRANGER, 960, "q|-name|b");
    scan(f);
    scan(f);
    uuid_copy(own, vm_of_pid(f, 40)->uuid);
    assert_int_equal(uuid_compare(uuid, vm_of_pid(f, 41)->uuid), 0);
    assert_true(uuid_compare(uuid, own) != 0);
}

/* A socket that two VMs name belongs to neither, and so does a group. */
static void test_shared_links(void **state)
{
    struct fixture *f = *state;

    for (int pid = 10; pid < 12; pid++)
        start_fake(f, &(struct fake){.pid = pid,
                                     .executable = QEMU,
                                     .cgroup = "0::/qemu.slice/100.scope\n",
                                     .cmdline = pid == 10
                                                    ? "q|-uuid|" UUID_A
                                                      "|-chardev|socket,id=c,path=/run/fs.sock"
                                                    : "q|-uuid|" UUID_B
                                                      "|-chardev|socket,id=d,path=/run/fs.sock"});
    start_fake(f, &(struct fake){.pid = 20,
                                 .executable = "/usr/libexec/virtiofsd",
                                 .cgroup = "0::/qemu.slice/100.scope\n",
                                 .cmdline = "virtiofsd|--socket-path=/run/fs.sock"});
    scan(f);
    assert_int_equal(f->table.n, 2);
    assert_null(vm_of_pid(f, 20));
    kill_fake(f, 11);
    scan(f);
    assert_ptr_equal(vm_of_pid(f, 20), vm_of_uuid(f, UUID_A));
}

static void test_vcpu_names(void **state)
{
    static const char *const others[] = {"",          "CPU",          "CPU ",    "CPU /KVM",
                                         "CPU x/KVM", "CPU 0",        "cpu 0/x", "XCPU 0/K",
                                         "CPU 1 /K",  "ALL CPUs/TCG", "vcpu 0"};

    for (size_t i = 0; i < ELEMENTS(others); i++)
        assert_false(comm_is_vcpu(others[i]));
    assert_true(comm_is_vcpu("CPU 0/KVM"));
    assert_true(comm_is_vcpu("CPU 127/TCG\n"));
}

static void test_no_proc_root(void **state)
{
    const struct proc_scan_config config = {.proc_root = "/nonexistent/proc"};
    struct proc_scan *scan = NULL;

    assert_int_equal(proc_scan_new(&config, &scan), -ENOENT);
    assert_null(scan);
    assert_null(proc_scan_free(NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_a_vm),
        TEST(test_broken_processes),
        TEST(test_exec_later),
        TEST(test_exec_under_way),
        TEST(test_pid_reuse),
        TEST(test_end),
        TEST(test_derived_uuids),
        TEST(test_one_name_twice),
        TEST(test_older_first),
        TEST(test_one_uuid_twice),
        TEST(test_one_uuid_twice_libvirt),
        TEST(test_vcpus_claimed),
        TEST(test_owners),
        TEST(test_owner_unknown),
        TEST(test_untrusted_vms),
        TEST(test_shared_links),
        TEST(test_forked_qemu),
        TEST(test_circle_of_parents),
        TEST(test_hostile_names),
        TEST(test_helpers_by_cgroup),
        TEST(test_helpers_by_socket),
        TEST(test_many_sockets),
        TEST(test_too_many_vms),
        TEST(test_helper_moved),
        TEST(test_kubevirt),
        TEST(test_vhost),
        TEST(test_vcpus_plugged),
        cmocka_unit_test(test_vcpu_names),
        cmocka_unit_test(test_no_proc_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
