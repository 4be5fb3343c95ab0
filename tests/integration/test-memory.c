/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel tells of memory, against what was really mapped and touched:
 * one process stands for QEMU, one for its virtiofsd, which maps the same RAM.
 */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/proc_text.h"
#include "memory/memory.h"
#include "util/file.h"

#define MB (UINT64_C(1) << 20)
#define RAM_MAPPED (64 * MB)
#define RAM_TOUCHED (48 * MB)
#define OWN_TOUCHED (32 * MB)
#define HELPER_TOUCHED (3 * MB)
#define HUGE_PAGE (2 * MB)
#define HUGE_TOUCHED (8 * HUGE_PAGE)
#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"
/* Page tables' worth of libc's own pages, and pages the kernel has not yet counted. */
#define TOLERANCE (1 * MB)

static bool huge_pages; /* there are enough */
static uint64_t huge_pages_before;

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        print_message("%s: %s\n", path, strerror(errno));
    close(fd);
}

static void write_number(const char *path, uint64_t number)
{
    char text[32];

    snprintf(text, sizeof(text), "%lu", (unsigned long)number);
    write_text(path, text);
}

static int reserve_huge_pages(void **state)
{
    uint64_t wanted = HUGE_TOUCHED / HUGE_PAGE, now = 0;

    if (read_sysfs_u64(AT_FDCWD, NR_HUGEPAGES, &huge_pages_before) < 0)
        return 0;
    write_number(NR_HUGEPAGES, huge_pages_before + wanted);
    read_sysfs_u64(AT_FDCWD, NR_HUGEPAGES, &now);
    huge_pages = now >= huge_pages_before + wanted;
    if (!huge_pages)
        print_message("this machine gives no huge pages: tested without\n");
    return 0;
}

static int release_huge_pages(void **state)
{
    write_number(NR_HUGEPAGES, huge_pages_before);
    return 0;
}

/* A process that does one thing when it is told to. */
struct actor {
    pid_t pid;
    int command_fd;
    int report_fd;
};

static void touch(size_t mapped, size_t touched, int flags, int fd)
{
    unsigned char *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (p == MAP_FAILED)
        _exit(1);
    for (size_t i = 0; i < touched; i += 4096)
        p[i] = 1;
}

static void play_qemu(int ram_fd)
{
    touch(RAM_MAPPED, RAM_TOUCHED, MAP_SHARED, ram_fd);
    touch(OWN_TOUCHED, OWN_TOUCHED, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (huge_pages)
        touch(HUGE_TOUCHED, HUGE_TOUCHED, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
}

static void play_helper(int ram_fd)
{
    touch(RAM_MAPPED, RAM_TOUCHED, MAP_SHARED, ram_fd);
    touch(HELPER_TOUCHED, HELPER_TOUCHED, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static struct actor start_actor(void (*play)(int ram_fd), int ram_fd)
{
    int command[2], report[2];
    struct actor actor;
    char byte = 0;

    assert_int_equal(pipe(command), 0);
    assert_int_equal(pipe(report), 0);
    actor.pid = fork();
    if (actor.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (read(command[0], &byte, 1) != 1)
            _exit(1);
        play(ram_fd);
        if (write(report[1], &byte, 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_true(actor.pid > 0);
    close(command[0]);
    close(report[1]);
    actor.command_fd = command[1];
    actor.report_fd = report[0];
    return actor;
}

static void tell(const struct actor *actor)
{
    char byte = 0;

    assert_int_equal(write(actor->command_fd, &byte, 1), 1);
    assert_int_equal(read(actor->report_fd, &byte, 1), 1);
}

static void stop_actor(const struct actor *actor)
{
    kill(actor->pid, SIGKILL);
    waitpid(actor->pid, NULL, 0);
    close(actor->command_fd);
    close(actor->report_fd);
}

static struct process_id id_of(pid_t pid)
{
    struct proc_stat stat;
    char path[64], text[1024];
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    length = read_file(AT_FDCWD, path, text, sizeof(text));
    assert_true(length > 0);
    assert_int_equal(parse_proc_stat(text, (size_t)length, &stat), 0);
    return (struct process_id){pid, stat.start_ticks};
}

/* The VM of the two, seen by a reader of its own. */
struct seen {
    uint64_t vm[2];   /* by socket */
    uint64_t host[2]; /* by socket */
};

static struct seen look(const struct topology *topology, const struct actor *qemu,
                        const struct actor *helper)
{
    struct vm_process processes[] = {{id_of(qemu->pid), VM_PROCESS_QEMU},
                                     {id_of(helper->pid), VM_PROCESS_HELPER}};
    struct vm vm = {.uuid = {1}, .processes = processes, .n_processes = 2};
    struct vm_table table = {.vms = &vm, .n = 1};
    struct usage_vm usage_vm = {.uuid = {1}};
    struct usage usage = {.vms = &usage_vm, .n_vms = 1};
    struct memory_reader *reader = NULL;
    struct seen seen;

    /* Only page tables can tell that it has memory where it does not run. */
    usage_vm.amount.sockets[1].cpu_ns = 1;
    assert_int_equal(memory_reader_new(&reader, "/proc", "/sys", topology), 0);
    assert_int_equal(memory_reader_sample(reader, &table, &usage), 0);
    for (int s = 0; s < 2; s++) {
        seen.vm[s] = usage_vm.amount.sockets[s].memory_bytes;
        seen.host[s] = usage.host.sockets[s].memory_bytes;
    }
    memory_reader_free(reader);
    return seen;
}

static uint64_t touched(void)
{
    return RAM_TOUCHED + OWN_TOUCHED + HELPER_TOUCHED + (huge_pages ? HUGE_TOUCHED : 0);
}

static bool is_near(uint64_t bytes)
{
    return bytes >= touched() - TOLERANCE && bytes <= touched() + TOLERANCE;
}

static void check(const struct topology *topology, const char *scope)
{
    int ram_fd = memfd_create("ram", MFD_CLOEXEC);
    struct actor qemu, helper;
    struct seen before, after;

    assert_int_equal(ftruncate(ram_fd, (off_t)RAM_MAPPED), 0);
    qemu = start_actor(play_qemu, ram_fd);
    helper = start_actor(play_helper, ram_fd);
    if (scope) {
        char path[512];

        snprintf(path, sizeof(path), "%s/cgroup.procs", scope);
        write_number(path, (uint64_t)qemu.pid);
        write_number(path, (uint64_t)helper.pid);
    }
    before = look(topology, &qemu, &helper);
    tell(&qemu);
    tell(&helper);
    after = look(topology, &qemu, &helper);
    /* The kernel sums a group's counts up every 2 seconds, or later. */
    for (int i = 0; scope && i < 600 && !is_near(after.vm[0] - before.vm[0]); i++) {
        usleep(100000);
        after = look(topology, &qemu, &helper);
    }
    stop_actor(&qemu);
    stop_actor(&helper);
    close(ram_fd);
    print_message("touched %lu kB, seen %lu kB\n", (unsigned long)(touched() >> 10),
                  (unsigned long)((after.vm[0] - before.vm[0]) >> 10));
    assert_true(is_near(after.vm[0] - before.vm[0]));
    /* This machine has one node: nothing is on the other, whoever says the VM runs there. */
    assert_true(after.host[0] > 0);
    assert_int_equal(after.host[1], 0);
    if (topology->n_nodes > 1)
        assert_int_equal(after.vm[1], 0);
}

static void test_status(void **state)
{
    struct topology topology;

    assert_int_equal(topology_read(&topology, "/nonexistent", 1, PACKAGES_MAX), 0);
    check(&topology, NULL);
    topology_deinit(&topology);
}

/* A second node that this machine does not have makes the page tables matter. */
static void test_page_tables(void **state)
{
    struct topology_node nodes[] = {{0, 0}, {7, 1}};
    struct topology topology = {.nodes = nodes, .n_nodes = 2};

    if (access("/proc/self/numa_maps", R_OK) < 0 ||
        access("/sys/devices/system/node/node1", F_OK) == 0) {
        print_message("needs a kernel with NUMA and a machine with one node\n");
        skip();
    }
    check(&topology, NULL);
}

static void test_scope(void **state)
{
    static const char machine[] = "machine.slice";
    static const char name[] = "machine-qemu\\x2d4242\\x2dtest.scope";
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    const char *root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    char slice[128], scope[256], path[512];
    struct topology_node nodes[] = {{0, 0}, {7, 1}};
    struct topology topology = {.nodes = nodes, .n_nodes = 2};
    bool made;

    snprintf(slice, sizeof(slice), "%s/%s", root, machine);
    made = mkdir(slice, 0755) == 0;
    snprintf(path, sizeof(path), "%s/cgroup.subtree_control", slice);
    if (v2)
        write_text(path, "+memory");
    snprintf(scope, sizeof(scope), "%s/%s", slice, name);
    snprintf(path, sizeof(path), "%s/memory.numa_stat", scope);
    if (mkdir(scope, 0755) < 0 || access(path, R_OK) < 0) {
        print_message("no control group with memory.numa_stat can be made here\n");
        rmdir(scope);
        if (made)
            rmdir(slice);
        skip();
    }
    check(&topology, scope);
    for (int i = 0; i < 6000 && rmdir(scope) < 0; i++)
        usleep(10000); /* the processes are still on their way out */
    if (made)
        rmdir(slice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, reserve_huge_pages, release_huge_pages),
        cmocka_unit_test_setup_teardown(test_page_tables, reserve_huge_pages, release_huge_pages),
        cmocka_unit_test_setup_teardown(test_scope, reserve_huge_pages, release_huge_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
