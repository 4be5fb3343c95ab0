/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "host/proc_text.h"
#include "usage/exit_listener.h"
#include "usage/procfs.h"
#include "usage/usage_state.h"
#include "util/clock.h"
#include "util/file.h"

/* On a recorded tree: CPU time in clock ticks of 10 ms, threads on two sockets. */

#define TICK_NS (10 * NSEC_PER_MSEC)

static void write_stat(const char *root, const char *where, int pid, unsigned ticks, unsigned start,
                       int cpu)
{
    char text[512];

    snprintf(text, sizeof(text),
             "%d (qemu-system-x86) S 1 1 1 0 -1 4194304 0 0 0 0 %u 0 0 0 20 0 1 0 %u 0 0 0 0 0 0 0 "
             "0 0 0 0 0 0 0 0 17 %d 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
             pid, ticks, start, cpu);
    fixture_write(root, text, "%s/stat", where);
}

static void write_thread(const char *root, int pid, int tid, uint64_t cpu_ns, int cpu)
{
    char where[64], text[64];

    snprintf(where, sizeof(where), "%d/task/%d", pid, tid);
    write_stat(root, where, tid, 0, 100, cpu);
    snprintf(text, sizeof(text), "%lu 0 1\n", (unsigned long)cpu_ns);
    fixture_write(root, text, "%s/schedstat", where);
}

static void write_process(const char *root, int pid, unsigned ticks, unsigned start)
{
    char where[16];

    snprintf(where, sizeof(where), "%d", pid);
    write_stat(root, where, pid, ticks, start, 0);
}

/* Idle time of the two CPUs so far; all else was busy. */
static void write_cpus(const char *root, unsigned idle0, unsigned idle1)
{
    char text[256];

    snprintf(text, sizeof(text),
             "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 %u 0 0 0 0 0 0\n"
             "cpu1 0 0 0 %u 0 0 0 0 0 0\nintr 0\n",
             idle0, idle1);
    fixture_write(root, text, "stat");
}

static int setup(void **state)
{
    fixture_setup(state);
    write_cpus(*state, 0, 0);
    fixture_write(*state, "0\n", "devices/system/cpu/cpu0/topology/physical_package_id");
    fixture_write(*state, "1\n", "devices/system/cpu/cpu1/topology/physical_package_id");
    fixture_write(*state, "MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 300 kB\n", "meminfo");
    return 0;
}

static struct usage_provider *new_provider(const char *proc_root, const char *sysfs_root)
{
    struct usage_provider *provider = NULL;

    assert_int_equal(procfs_usage_new(&provider, proc_root, sysfs_root, &(struct usage_former){0}),
                     0);
    return provider;
}

/* One VM with up to two processes. */
struct guest {
    struct vm_process processes[2];
    struct vm vm;
    struct vm_table table;
};

static struct guest *guest_init(struct guest *guest, size_t n, pid_t pid, uint64_t start)
{
    *guest = (struct guest){
        .processes = {{{pid, start}, VM_PROCESS_QEMU}, {{pid + 1, start}, VM_PROCESS_HELPER}},
        .vm = {.uuid = {1}, .name = "a", .vcpus = 1, .running = true},
    };
    guest->vm.processes = guest->processes;
    guest->vm.n_processes = n;
    guest->table = (struct vm_table){.vms = &guest->vm, .n = 1};
    return guest;
}

static struct usage sample(struct usage_provider *provider, const struct guest *guest)
{
    struct usage usage = {0};

    assert_int_equal(provider->ops->sample(provider, &guest->table, &usage), 0);
    return usage;
}

/* The next daemon knows how far the last one had counted, and which processes began since. */
static void test_continues(void **state)
{
    const char *root = *state;
    struct usage_provider *provider = new_provider(root, root);
    struct usage_former former = {.time_ns = 5};
    struct buffer saved = {0};
    struct guest guest;
    struct usage usage;
    uint64_t began;

    write_process(root, 10, 500, 100);
    guest_init(&guest, 1, 10, 100);
    usage = sample(provider, &guest);
    usage_deinit(&usage);
    assert_int_equal(usage_state_begin(&saved, "procfs", former.time_ns), 0);
    assert_int_equal(provider->ops->save(provider, &saved), 0);
    usage_state_seal(&saved);
    usage_provider_free(provider);

    began = clock_ns(CLOCK_BOOTTIME) / TICK_NS;
    write_process(root, 10, 540, 100);
    write_process(root, 11, 7, (unsigned)began);
    guest_init(&guest, 2, 10, 100);
    guest.processes[1].id.start_ticks = began;
    former.state = saved.bytes;
    former.state_size = saved.size;
    assert_int_equal(procfs_usage_new(&provider, root, root, &former), 0);
    assert_true(provider->continues);
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 47 * TICK_NS);
    usage_deinit(&usage);
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 0);
    usage_deinit(&usage);
    usage_provider_free(provider);

    /* Another interval's, or cut. */
    former.time_ns++;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(procfs_usage_new(&provider, root, root, &former), 0);
        assert_false(provider->continues);
        usage = sample(provider, &guest);
        assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 0);
        usage_deinit(&usage);
        usage_provider_free(provider);
        former.time_ns--;
        former.state_size--;
    }
    buffer_deinit(&saved);
}

static void test_processes_on_two_sockets(void **state)
{
    const char *root = *state;
    struct usage_provider *provider = new_provider(root, root);
    struct guest guest;
    struct usage usage;

    write_process(root, 10, 500, 100);
    write_process(root, 11, 50, 100);
    write_thread(root, 10, 10, 3 * NSEC_PER_SEC, 0);
    write_thread(root, 10, 12, 2 * NSEC_PER_SEC, 1);
    guest_init(&guest, 2, 10, 100);

    /* What it had used before it was known is nobody's. */
    usage = sample(provider, &guest);
    assert_int_equal(usage.n_sockets, 2);
    assert_int_equal(usage.n_vms, 1);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns + usage.vms[0].amount.sockets[1].cpu_ns,
                     0);
    usage_deinit(&usage);

    /* 400 ms, of which the threads that still live show 100 and 300; the helper adds 20. */
    write_process(root, 10, 540, 100);
    write_process(root, 11, 52, 100);
    write_thread(root, 10, 10, 3 * NSEC_PER_SEC + 50 * NSEC_PER_MSEC, 0);
    write_thread(root, 10, 12, 2 * NSEC_PER_SEC + 150 * NSEC_PER_MSEC, 1);
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 10 * TICK_NS + 2 * TICK_NS);
    assert_int_equal(usage.vms[0].amount.sockets[1].cpu_ns, 30 * TICK_NS);
    usage_deinit(&usage);
    usage_provider_free(provider);
}

static void test_cpu_comes_online(void **state)
{
    static const char package[] = "devices/system/cpu/cpu1/topology/physical_package_id";
    static const char one_cpu[] = "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\n";
    const char *root = *state;
    struct usage_provider *provider;
    struct guest guest;
    struct usage usage;

    /* Offline, a CPU has neither times nor a socket. */
    fixture_remove(root, package);
    fixture_write(root, one_cpu, "stat");
    provider = new_provider(root, root);
    write_process(root, 10, 500, 100);
    write_thread(root, 10, 10, 3 * NSEC_PER_SEC, 0);
    guest_init(&guest, 1, 10, 100);
    usage = sample(provider, &guest);
    assert_int_equal(usage.n_sockets, 1);
    usage_deinit(&usage);

    fixture_write(root, "1\n", package);
    write_cpus(root, 0, 0);
    usage = sample(provider, &guest);
    assert_int_equal(usage.n_sockets, 2);
    usage_deinit(&usage);

    /* It goes and comes back. */
    fixture_remove(root, package);
    fixture_write(root, one_cpu, "stat");
    usage = sample(provider, &guest);
    usage_deinit(&usage);
    fixture_write(root, "1\n", package);
    write_cpus(root, 0, 0);
    usage = sample(provider, &guest);
    usage_deinit(&usage);
    write_process(root, 10, 540, 100);
    write_thread(root, 10, 10, 3 * NSEC_PER_SEC + 400 * NSEC_PER_MSEC, 1);
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.sockets[1].cpu_ns, 40 * TICK_NS);
    usage_deinit(&usage);
    usage_provider_free(provider);
}

static void test_memory_and_io(void **state)
{
    static const char status[] = "RssAnon:\t 10 kB\nRssFile:\t 20 kB\nRssShmem:\t 200 kB\n"
                                 "HugetlbPages:\t 50 kB\n";
    const char *root = *state;
    struct usage_provider *provider = new_provider(root, root);
    struct guest guest;
    struct usage usage;

    write_process(root, 10, 0, 100);
    write_process(root, 11, 0, 100);
    fixture_write(root, status, "10/status");
    fixture_write(root, status, "11/status");
    fixture_write(root, "read_bytes: 1000\nwrite_bytes: 2000\n", "10/io");
    guest_init(&guest, 2, 10, 100);
    usage = sample(provider, &guest);
    /* The helper maps the guest's memory again: only its own counts. */
    assert_int_equal(usage.vms[0].amount.sockets[0].memory_bytes, (280 + 10) * 1024);
    assert_int_equal(usage.host.sockets[0].memory_bytes, (600 - 290) * 1024);
    assert_int_equal(usage.vms[0].amount.io_bytes, 0);
    usage_deinit(&usage);
    fixture_write(root, "read_bytes: 1500\nwrite_bytes: 2001\n", "10/io");
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.io_bytes, 501);
    usage_deinit(&usage);
    usage_provider_free(provider);
}

static void test_reused_pid_is_another_process(void **state)
{
    const char *root = *state;
    struct usage_provider *provider = new_provider(root, root);
    struct guest guest;
    struct usage usage;

    write_process(root, 10, 500, 100);
    guest_init(&guest, 1, 10, 100);
    usage = sample(provider, &guest);
    usage_deinit(&usage);
    /* The PID now is a younger process, and the table still names the old one. */
    fixture_remove(root, "10");
    write_process(root, 10, 900, 777);
    usage = sample(provider, &guest);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 0);
    usage_deinit(&usage);
    usage = sample(provider, &guest);
    assert_int_equal(usage.n_vms, 0);
    usage_deinit(&usage);
    usage_provider_free(provider);
}

/* CPU time of a process that is first seen in the second sample. @param age_ticks  at the first
 * one: at least where it is old, at most where it is not */
static uint64_t first_cpu_ns(const char *root, unsigned age_ticks, bool old)
{
    struct usage_provider *provider = new_provider(root, root);
    struct guest guest, nobody = {0};
    uint64_t before_ns = clock_ns(CLOCK_BOOTTIME);
    struct usage usage = sample(provider, &nobody);
    uint64_t at_ns = old ? before_ns : clock_ns(CLOCK_BOOTTIME);
    unsigned start = (unsigned)(at_ns / TICK_NS) - age_ticks;
    uint64_t cpu_ns;

    usage_deinit(&usage);
    write_process(root, 10, 7, start);
    guest_init(&guest, 1, 10, start);
    usage = sample(provider, &guest);
    cpu_ns = usage.vms[0].amount.sockets[0].cpu_ns;
    usage_deinit(&usage);
    usage_provider_free(provider);
    return cpu_ns;
}

static void test_newborn_counts_from_its_start(void **state)
{
    assert_int_equal(first_cpu_ns(*state, 0, false), 7 * TICK_NS);
    /* Forked before the first sample, QEMU after it. */
    assert_int_equal(first_cpu_ns(*state, 100, false), 7 * TICK_NS);
    assert_int_equal(first_cpu_ns(*state, 500, true), 0);
}

static void test_host_is_the_rest(void **state)
{
    const char *root = *state;
    struct usage_provider *provider = new_provider(root, root);
    struct guest guest;
    struct usage usage;
    uint64_t started = now_ns();

    write_process(root, 10, 500, 100);
    guest_init(&guest, 1, 10, 100);
    usage = sample(provider, &guest);
    usage_deinit(&usage);
    usleep(200000);
    write_process(root, 10, 505, 100);
    write_thread(root, 10, 10, NSEC_PER_SEC, 1);
    usage = sample(provider, &guest);
    /* No idle tick was counted: both CPUs were busy all the time, one of them 50 ms for the VM. */
    assert_int_equal(usage.vms[0].amount.sockets[1].cpu_ns, 5 * TICK_NS);
    assert_in_range(usage.host.sockets[0].cpu_ns, 200 * NSEC_PER_MSEC, now_ns() - started);
    assert_true(usage.host.sockets[0].cpu_ns > usage.host.sockets[1].cpu_ns);
    assert_in_range(usage.host.sockets[0].cpu_ns - usage.host.sockets[1].cpu_ns, 45 * NSEC_PER_MSEC,
                    55 * NSEC_PER_MSEC);
    usage_deinit(&usage);
    usage_provider_free(provider);
}

/* On the running kernel: nanoseconds, ended threads, the last slice. */

static void burn(uint64_t cpu_ns)
{
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + cpu_ns;

    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

static void *burn_thread(void *unused)
{
    burn(2 * NSEC_PER_MSEC);
    return NULL;
}

/* Burns 100 ms in threads of 2 ms, tells, waits to be told, burns 30 ms more, and ends. */
static void child_life(int report_fd, int command_fd)
{
    uint64_t used;
    char byte;

    for (int i = 0; i < 50; i++) {
        pthread_t thread;

        pthread_create(&thread, NULL, burn_thread, NULL);
        pthread_join(thread, NULL);
    }
    used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (write(report_fd, &used, sizeof(used)) != sizeof(used) || read(command_fd, &byte, 1) != 1)
        _exit(1);
    burn(30 * NSEC_PER_MSEC);
    used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    _exit(write(report_fd, &used, sizeof(used)) != sizeof(used));
}

static uint64_t start_ticks(pid_t pid)
{
    struct proc_stat stat;
    char path[64], text[1024];
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    length = read_file(-1, path, text, sizeof(text));
    assert_true(length > 0);
    assert_int_equal(parse_proc_stat(text, (size_t)length, &stat), 0);
    return stat.start_ticks;
}

static uint64_t vm_cpu_ns(const struct usage *usage)
{
    uint64_t sum = 0;

    for (unsigned s = 0; s < PACKAGES_MAX; s++)
        sum += usage->vms[0].amount.sockets[s].cpu_ns;
    return sum;
}

/* From birth to death; its parent reaps it before or after the provider looks. */
static void check_life(bool reaped_first)
{
    struct usage_provider *provider = new_provider("/proc", "/sys");
    struct guest guest, nobody = {0};
    struct usage usage = sample(provider, &nobody);
    int report[2], command[2];
    uint64_t first, last, counted;
    siginfo_t info;
    pid_t pid;

    usage_deinit(&usage);
    assert_int_equal(pipe(report), 0);
    assert_int_equal(pipe(command), 0);
    usleep(20000); /* so that it is younger than the sample by more than a clock tick */
    pid = fork();
    if (pid == 0)
        child_life(report[1], command[0]);
    assert_int_equal(read(report[0], &first, sizeof(first)), sizeof(first));
    guest_init(&guest, 1, pid, start_ticks(pid));
    usage = sample(provider, &guest);
    counted = vm_cpu_ns(&usage);
    usage_deinit(&usage);
    /* Fork and the way to the pipe come on top of what it saw itself. */
    assert_in_range(counted, first, first + 20 * NSEC_PER_MSEC);

    assert_int_equal(write(command[1], "x", 1), 1);
    assert_int_equal(read(report[0], &last, sizeof(last)), sizeof(last));
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    if (reaped_first)
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    provider->ops->dispatch(provider);
    if (!reaped_first)
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    usage = sample(provider, &nobody);
    assert_int_equal(usage.n_vms, 1);
    counted += vm_cpu_ns(&usage);
    usage_deinit(&usage);
    /* The kernel tells a thread's time as of the scheduler's last tick: 10 ms with the slowest HZ.
     */
    assert_in_range(counted, last - 10 * NSEC_PER_MSEC, last + 20 * NSEC_PER_MSEC);
    usage = sample(provider, &nobody);
    assert_int_equal(usage.n_vms, 0);
    usage_deinit(&usage);
    usage_provider_free(provider);
    for (int i = 0; i < 2; i++) {
        close(report[i]);
        close(command[i]);
    }
}

static void test_a_life_on_this_kernel(void **state)
{
    check_life(false);
}

static void test_a_life_that_is_reaped_at_once(void **state)
{
    struct exit_listener *listener = NULL;

    if (exit_listener_new(&listener, 1) < 0) {
        print_message("the kernel does not tell us of ended processes: needs CAP_NET_ADMIN\n");
        skip();
    }
    exit_listener_free(listener);
    check_life(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_processes_on_two_sockets, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_continues, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_cpu_comes_online, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_memory_and_io, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_reused_pid_is_another_process, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_newborn_counts_from_its_start, setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_host_is_the_rest, setup, fixture_teardown),
        cmocka_unit_test(test_a_life_on_this_kernel),
        cmocka_unit_test(test_a_life_that_is_reaped_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
