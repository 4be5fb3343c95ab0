/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The bpf usage provider on the running kernel: programs that call themselves
 * QEMU use CPU time in ways that are hard to count, and tell what the kernel
 * charged them with.
 *
 *     test-bpf-usage                  the tests
 *     qemu-system-test WORK MS        a copy of it: works for that CPU time, then stops
 *
 * Work is measured in CPU time, and both sides of a comparison are the kernel's
 * account: a busy machine makes a test longer, and changes nothing that it checks.
 */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/proc_text.h"
#include "usage/bpf.h"
#include "usage/bpf_handover.h"
#include "usage/bpf_programs.h"
#include "usage/usage_state.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"

#define WORKER "qemu-system-test"

/* Where the unified hierarchy is mounted, with and without the other ones beside it. */
#define CGROUPS "/sys/fs/cgroup"
#define UNIFIED CGROUPS "/unified"

/* The running slice is known as of the scheduler's last tick: 10 ms with the slowest HZ. */
#define TICK_NS (10 * NSEC_PER_MSEC)

/* CPU time that no test waits for. */
#define ENDLESS_MS (60 * 60 * 1000)

/* The worker's side. */

static void burn(uint64_t duration_ns)
{
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + duration_ns;

    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

static void *burn_millisecond(void *unused)
{
    burn(NSEC_PER_MSEC);
    return NULL;
}

static void work_short_threads(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, burn_millisecond, NULL) == 0)
        pthread_join(thread, NULL);
}

static void work_bursts(void)
{
    struct timespec pause = {.tv_nsec = 5 * NSEC_PER_MSEC};

    burn(5 * NSEC_PER_MSEC);
    nanosleep(&pause, NULL);
}

static void work_children(void)
{
    pid_t child = fork();

    if (child == 0) {
        burn(20 * NSEC_PER_MSEC);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void work_spinning(void)
{
    burn(100 * NSEC_PER_MSEC);
}

static const struct work {
    const char *name;
    void (*once)(void);
} works[] = {
    {"short-threads", work_short_threads},
    {"bursts", work_bursts},
    {"children", work_children},
    {"spinning", work_spinning},
};

static uint64_t timeval_ns(struct timeval time)
{
    return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_usec * NSEC_PER_USEC;
}

/* What this process and its children that ended have used. */
static uint64_t used_ns(void)
{
    struct rusage children;

    getrusage(RUSAGE_CHILDREN, &children);
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + timeval_ns(children.ru_utime) +
           timeval_ns(children.ru_stime);
}

/* Works until it has used that CPU time; then waits to be read and killed. */
static int run_worker(const char *name, uint64_t cpu_ns)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
        while (strcmp(works[i].name, name) == 0 && used_ns() < cpu_ns)
            works[i].once();
    kill(getpid(), SIGSTOP);
    return 0;
}

/* The tests' side. */

struct fixture {
    char directory[32];
    char worker_path[64];
    char group[64]; /* control group of the worker whose whole account is read */
    struct usage_provider *provider;
    struct vm vms[1];
    struct vm_process processes[1];
    struct usage_socket vm; /* totals */
    struct usage_socket host;
    uint64_t io_bytes;
};

static void pause_ms(unsigned milliseconds)
{
    usleep(milliseconds * 1000);
}

static int copy_self(const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t length;
    FILE *file;
    int r = read_file_full(AT_FDCWD, "/proc/self/exe", 64 << 20, &text, &length);

    if (r < 0)
        return r;
    file = fopen(path, "we");
    if (!file || fwrite(text, 1, length, file) != length || fclose(file) != 0)
        return -EIO;
    return chmod(path, 0700);
}

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture = (struct fixture){.directory = "/tmp/virtjoule-bpf-XXXXXX"};
    if (!mkdtemp(fixture.directory))
        return -1;
    snprintf(fixture.worker_path, sizeof(fixture.worker_path), "%s/" WORKER, fixture.directory);
    snprintf(fixture.group, sizeof(fixture.group), "%s/virtjoule-bpf-%d",
             access(UNIFIED "/cgroup.procs", F_OK) == 0 ? UNIFIED : CGROUPS, getpid());
    *state = &fixture;
    return mkdir(fixture.group, 0755) < 0 ? -1 : copy_self(fixture.worker_path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[160];
    int r;

    usage_provider_free(f->provider);
    /* A failed test may have left its worker there. */
    snprintf(command, sizeof(command), "echo 1 >%s/cgroup.kill; rm -rf %s", f->group, f->directory);
    r = system(command);
    /* Ended processes leave their group a moment later than their parent learns of the end. */
    for (int i = 0; i < 1000 && rmdir(f->group) < 0; i++)
        pause_ms(10);
    return r;
}

static void open_provider(struct fixture *f, const struct bpf_usage_config *config)
{
    int r = bpf_usage_new(&f->provider, config);

    if (r < 0)
        print_message("bpf_usage_new: %s\n", strerror(-r));
    assert_int_equal(r, 0);
}

static const struct bpf_usage_config real_config = {
    .sysfs_root = "/sys",
    .processes_max = BPF_USAGE_PROCESSES_MAX,
    .counters = bpf_usage_counters,
};

/* Not by fork(): a copy of a large process takes time to give up, as the child's, before its exec.
 */
static pid_t spawn(const char *path, char *const *arguments)
{
    pid_t pid;

    assert_int_equal(posix_spawn(&pid, path, NULL, NULL, arguments, environ), 0);
    return pid;
}

static pid_t start_worker(const struct fixture *f, const char *name, unsigned cpu_ms)
{
    char program[] = WORKER, work[32], cpu_time[16];
    char *arguments[] = {program, work, cpu_time, NULL};

    snprintf(work, sizeof(work), "%s", name);
    snprintf(cpu_time, sizeof(cpu_time), "%u", cpu_ms);
    return spawn(f->worker_path, arguments);
}

/* In the control group from just before its exec on. */
static pid_t start_worker_in_group(const struct fixture *f, const char *name, unsigned cpu_ms)
{
    char shell[] = "sh", option[] = "-c", command[256];
    char *arguments[] = {shell, option, command, NULL};

    snprintf(command, sizeof(command), "echo $$ >%s/cgroup.procs && exec %s %s %u", f->group,
             f->worker_path, name, cpu_ms);
    return spawn("/bin/sh", arguments);
}

static void wait_stopped(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static void end_worker(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static uint64_t start_ticks(pid_t pid)
{
    char path[32], text[1024];
    struct proc_stat stat;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    length = read_file(AT_FDCWD, path, text, sizeof(text));
    assert_true(length > 0);
    assert_int_equal(parse_proc_stat(text, (size_t)length, &stat), 0);
    return stat.start_ticks;
}

/* The kernel's account of the process' only thread, as of the last tick or switch. */
static uint64_t charged_ns(pid_t pid)
{
    char path[32], text[128];
    uint64_t cpu_ns;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
    length = read_file(AT_FDCWD, path, text, sizeof(text));
    assert_true(length > 0);
    assert_int_equal(parse_proc_schedstat(text, (size_t)length, &cpu_ns), 0);
    return cpu_ns;
}

/* The kernel's account of all that ever ran in the control group: of threads and of children, of
 * how they began and of how they ended. */
static uint64_t group_ns(const struct fixture *f)
{
    char path[80], text[512];
    uint64_t cpu_us;
    ssize_t length;

    snprintf(path, sizeof(path), "%s/cpu.stat", f->group);
    length = read_file(AT_FDCWD, path, text, sizeof(text) - 1);
    assert_true(length > 0);
    text[length] = '\0';
    assert_int_equal(sscanf(text, "usage_usec %" SCNu64, &cpu_us), 1);
    return cpu_us * NSEC_PER_USEC;
}

/* Until the worker has used that CPU time. It works without end, so it will have. */
static void wait_charged(pid_t pid, uint64_t cpu_ns)
{
    while (charged_ns(pid) < cpu_ns)
        pause_ms(1);
}

/* Lets the worker use that much more CPU time. */
static void let_work(pid_t pid, unsigned cpu_ms)
{
    wait_charged(pid, charged_ns(pid) + cpu_ms * NSEC_PER_MSEC);
}

/* What discovery will tell of the worker. */
static void find_vm(struct fixture *f, pid_t pid)
{
    f->processes[0] =
        (struct vm_process){{.pid = pid, .start_ticks = start_ticks(pid)}, VM_PROCESS_QEMU};
    f->vms[0] = (struct vm){
        .running = true, .vcpus = 1, .processes = f->processes, .n_processes = 1, .uuid = {1}};
}

static void add(struct usage_socket *total, struct usage_socket amount)
{
    total->cpu_ns += amount.cpu_ns;
    total->corun_ns += amount.corun_ns;
    total->cycles += amount.cycles;
}

static size_t sample(struct fixture *f, size_t n_vms)
{
    struct usage usage;
    size_t n_unlisted;

    assert_int_equal(f->provider->ops->sample(
                         f->provider, &(struct vm_table){.vms = f->vms, .n = n_vms}, &usage),
                     0);
    assert_true(usage.n_vms <= 1);
    add(&f->host, usage_on_socket(&usage.host, -1));
    for (size_t i = 0; i < usage.n_vms; i++) {
        add(&f->vm, usage_on_socket(&usage.vms[i].amount, -1));
        f->io_bytes += usage.vms[i].amount.io_bytes;
    }
    n_unlisted = usage.n_unlisted;
    usage_deinit(&usage);
    return n_unlisted;
}

static void check_near(uint64_t is, uint64_t should, uint64_t tolerance)
{
    if (is + tolerance < should || should + tolerance < is)
        fail_msg("%lu is not %lu +- %lu", (unsigned long)is, (unsigned long)should,
                 (unsigned long)tolerance);
}

/* A sample is of some moment between these two accounts, however long it took. */
struct charge {
    uint64_t before;
    uint64_t after;
};

static struct charge sample_charged(struct fixture *f, pid_t pid)
{
    struct charge charge = {.before = charged_ns(pid)};

    sample(f, 1);
    charge.after = charged_ns(pid);
    return charge;
}

/* @param since  of the sample from which on it is counted; NULL: from the start */
static void check_charge(uint64_t is, struct charge charge, const struct charge *since,
                         uint64_t tolerance)
{
    uint64_t least = charge.before - (since ? since->after : 0);
    uint64_t most = charge.after - (since ? since->before : 0);

    if (is + tolerance < least || most + tolerance < is)
        fail_msg("%" PRIu64 " is not %" PRIu64 " to %" PRIu64 " +- %" PRIu64, is, least, most,
                 tolerance);
}

/* Of what a worker uses from its exec on, nothing is lost, though nobody knows it till the end. */
static void check_worker(struct fixture *f, const char *name)
{
    pid_t pid;
    uint64_t charged;

    open_provider(f, &real_config);
    sample(f, 0);
    pid = start_worker_in_group(f, name, 500);
    while (group_ns(f) < 150 * NSEC_PER_MSEC)
        pause_ms(1);
    sample(f, 0);
    assert_int_equal(f->vm.cpu_ns, 0);
    wait_stopped(pid);
    charged = group_ns(f);
    assert_true(charged > 200 * NSEC_PER_MSEC);
    find_vm(f, pid);
    sample(f, 1);
    check_near(f->vm.cpu_ns, charged, charged / 200 + 2 * NSEC_PER_MSEC);
    end_worker(pid);
}

static void test_bursts(void **state)
{
    check_worker(*state, "bursts");
}

static void test_short_threads(void **state)
{
    check_worker(*state, "short-threads");
}

/* The children of a VM's process work for the VM. */
static void test_children(void **state)
{
    check_worker(*state, "children");
}

/* A thread that is hardly ever switched out counts at every sample. */
static void test_spinning(void **state)
{
    struct fixture *f = *state;
    pid_t pid;

    open_provider(f, &real_config);
    pid = start_worker(f, "spinning", ENDLESS_MS);
    find_vm(f, pid);
    for (int i = 0; i < 5; i++) {
        struct charge charge;

        let_work(pid, 200);
        charge = sample_charged(f, pid);
        check_charge(f->vm.cpu_ns, charge, NULL, 2 * TICK_NS);
    }
    end_worker(pid);
}

/* One that runs since before the programs were attached counts from then on. */
static void test_spinning_before(void **state)
{
    struct fixture *f = *state;
    pid_t pid = start_worker(f, "spinning", ENDLESS_MS);
    struct charge first;

    let_work(pid, 200);
    find_vm(f, pid);
    open_provider(f, &real_config);
    first = sample_charged(f, pid);
    f->vm.cpu_ns = 0;
    for (int i = 0; i < 3; i++) {
        struct charge charge;

        let_work(pid, 200);
        charge = sample_charged(f, pid);
        check_charge(f->vm.cpu_ns, charge, &first, 2 * TICK_NS);
    }
    end_worker(pid);
}

/* The last slices, and the time it takes to end, are the VM's as well. */
static void test_end(void **state)
{
    struct fixture *f = *state;
    struct process_changes changes;
    uint64_t charged;
    bool told = false;
    pid_t pid;

    open_provider(f, &real_config);
    f->provider->ops->take_changes(f->provider, &changes);
    assert_true(changes.all);
    pid = start_worker(f, "spinning", ENDLESS_MS);
    let_work(pid, 100);
    find_vm(f, pid);
    sample(f, 1);
    f->provider->ops->take_changes(f->provider, &changes);
    assert_false(changes.all);
    for (size_t i = 0; i < changes.n; i++)
        told |= changes.pids[i] == pid;
    assert_true(told);
    let_work(pid, 100);
    kill(pid, SIGKILL);
    /* A zombie still has its account. */
    assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    charged = charged_ns(pid);
    waitpid(pid, NULL, 0);
    sample(f, 0);
    check_near(f->vm.cpu_ns, charged, 3 * NSEC_PER_MSEC);
    f->provider->ops->take_changes(f->provider, &changes);
    told = false;
    for (size_t i = 0; i < changes.n; i++)
        told |= changes.pids[i] == pid;
    assert_true(told);
    /* It is forgotten then, and counted once. */
    f->vm.cpu_ns = 0;
    sample(f, 0);
    sample(f, 0);
    sample(f, 0);
    assert_int_equal(f->vm.cpu_ns, 0);
    f->provider->ops->take_changes(f->provider, &changes);
    assert_int_equal(changes.n, 0);
}

/* Without room for all, what is not told apart is told. */
static void test_no_room(void **state)
{
    struct fixture *f = *state;
    struct bpf_usage_config config = real_config;
    pid_t first, second;

    config.processes_max = 1;
    open_provider(f, &config);
    first = start_worker(f, "spinning", ENDLESS_MS);
    let_work(first, 50);
    second = start_worker(f, "spinning", ENDLESS_MS);
    let_work(second, 50);
    find_vm(f, second);
    assert_int_equal(sample(f, 1), 1);
    assert_int_equal(f->vm.cpu_ns, 0);
    /* There is room again when the first has ended and has been forgotten. */
    end_worker(first);
    for (int i = 0; i < 3; i++)
        sample(f, 1);
    assert_int_equal(sample(f, 1), 0);
    end_worker(second);
}

/* Two CPUs said to be one core: each of two busy threads has the other beside it. */
static void test_siblings(void **state)
{
    struct fixture *f = *state;
    struct bpf_usage_config config = real_config;
    char path[128];
    pid_t workers[2];
    FILE *file;

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        skip();
    for (int cpu = 0; cpu < 2; cpu++) {
        snprintf(path, sizeof(path), "mkdir -p %s/devices/system/cpu/cpu%d/topology", f->directory,
                 cpu);
        assert_int_equal(system(path), 0);
        snprintf(path, sizeof(path), "%s/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                 f->directory, cpu);
        file = fopen(path, "we");
        assert_non_null(file);
        fputs("0-1\n", file);
        fclose(file);
    }
    config.sysfs_root = f->directory;
    open_provider(f, &config);
    for (int i = 0; i < 2; i++) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(i, &set);
        workers[i] = start_worker(f, "spinning", ENDLESS_MS);
        sched_setaffinity(workers[i], sizeof(set), &set);
    }
    for (int i = 0; i < 2; i++)
        let_work(workers[i], 150);
    find_vm(f, workers[0]);
    sample(f, 1);
    f->vm = (struct usage_socket){0};
    let_work(workers[0], 500);
    sample(f, 1);
    check_near(f->vm.corun_ns, f->vm.cpu_ns, f->vm.cpu_ns / 20 + TICK_NS);
    end_worker(workers[1]);
    end_worker(workers[0]);
}

/* The path of the PMU's counts, with a counter that every kernel has: nanoseconds. */
static void test_counters(void **state)
{
    static const struct cpu_counter clocks[] = {
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK},
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_MAX + 1}, /* no such */
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK},
    };
    struct fixture *f = *state;
    struct bpf_usage_config config = real_config;
    cpu_set_t all, first;
    struct usage usage;
    pid_t pid;

    config.counters = clocks;
    open_provider(f, &config);
    /* Where switches from idle go unseen (bpf/vm_usage.bpf.c), so do counts. */
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof(first), &first);
    pid = start_worker(f, "bursts", 300);
    sched_setaffinity(0, sizeof(all), &all);
    wait_stopped(pid);
    find_vm(f, pid);
    assert_int_equal(
        f->provider->ops->sample(f->provider, &(struct vm_table){.vms = f->vms, .n = 1}, &usage),
        0);
    assert_int_equal(usage.features & (USAGE_CYCLES | USAGE_INSTRUCTIONS | USAGE_LLC_MISSES),
                     USAGE_CYCLES | USAGE_LLC_MISSES);
    add(&f->vm, usage_on_socket(&usage.vms[0].amount, -1));
    usage_deinit(&usage);
    check_near(f->vm.cycles, f->vm.cpu_ns, f->vm.cpu_ns / 20);
    end_worker(pid);
}

/* The host has what is left; all together is the CPUs' busy time. */
static void test_host(void **state)
{
    struct fixture *f = *state;
    uint64_t began, elapsed;
    cpu_set_t set;
    pid_t pid;

    open_provider(f, &real_config);
    pid = start_worker(f, "spinning", ENDLESS_MS);
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(pid, sizeof(set), &set);
    let_work(pid, 50);
    find_vm(f, pid);
    /* Before the sample: no part of what is counted from it on may lie outside. */
    began = now_ns();
    sample(f, 1);
    f->vm = f->host = (struct usage_socket){0};
    burn(300 * NSEC_PER_MSEC);
    sample(f, 1);
    elapsed = now_ns() - began;
    assert_true(f->host.cpu_ns + 50 * NSEC_PER_MSEC > 300 * NSEC_PER_MSEC);
    assert_true(f->host.cpu_ns + f->vm.cpu_ns <=
                elapsed * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) + 50 * NSEC_PER_MSEC);
    end_worker(pid);
}

/* A service manager that keeps one descriptor, and what a daemon leaves in a file. */
struct successor {
    int notify_fd;
    int kept_fd; /* -1: none */
    struct descriptor handed[1];
    struct descriptors descriptors;
    struct buffer state;
    uint64_t time_ns;
};

static void manage_service(struct successor *s, const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *s = (struct successor){.kept_fd = -1};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", f->directory);
    s->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(s->notify_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
}

static void forget_kept(struct successor *s)
{
    if (s->kept_fd >= 0)
        close(s->kept_fd);
    s->kept_fd = -1;
}

/* What the daemon has sent. */
static void take_notifications(struct successor *s)
{
    char text[256], control[CMSG_SPACE(sizeof(int))];
    ssize_t n;

    for (;;) {
        struct iovec data = {text, sizeof(text) - 1};
        struct msghdr header = {.msg_iov = &data,
                                .msg_iovlen = 1,
                                .msg_control = control,
                                .msg_controllen = sizeof(control)};

        n = recvmsg(s->notify_fd, &header, MSG_CMSG_CLOEXEC);
        if (n < 0)
            return;
        text[n] = '\0';
        assert_non_null(strstr(text, "FDNAME=usage"));
        if (strstr(text, "FDSTOREREMOVE=1"))
            forget_kept(s);
        if (CMSG_FIRSTHDR(&header)) {
            assert_non_null(strstr(text, "FDSTORE=1\nFDPOLL=0\n"));
            assert_int_equal(s->kept_fd, -1);
            memcpy(&s->kept_fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(int));
        }
    }
}

static void end_service(struct successor *s)
{
    forget_kept(s);
    close(s->notify_fd);
    unsetenv("NOTIFY_SOCKET");
    buffer_deinit(&s->state);
}

/* Up to the last sample; then the daemon is gone. */
static void end_daemon(struct successor *s, struct fixture *f)
{
    take_notifications(s);
    s->time_ns = now_ns();
    assert_int_equal(usage_state_begin(&s->state, "bpf", s->time_ns), 0);
    assert_int_equal(f->provider->ops->save(f->provider, &s->state), 0);
    usage_state_seal(&s->state);
    f->provider = usage_provider_free(f->provider);
}

/* @return whether it counts on from there */
static bool start_daemon(struct successor *s, struct fixture *f, struct bpf_usage_config config)
{
    s->handed[0] = (struct descriptor){dup(s->kept_fd), strdup("usage")};
    s->descriptors = (struct descriptors){1, s->handed};
    config.former =
        (struct usage_former){s->state.bytes, s->state.size, s->time_ns, &s->descriptors};
    open_provider(f, &config);
    assert_int_equal(s->handed[0].fd, -1);
    free(s->handed[0].name);
    take_notifications(s);
    return f->provider->continues;
}

/* Between two daemons nothing is lost: of the worker, of one that starts, and of the host. */
static void test_continues(void **state)
{
    struct fixture *f = *state;
    struct successor s;
    pid_t pid;

    manage_service(&s, f);
    open_provider(f, &real_config);
    sample(f, 0);
    pid = start_worker(f, "spinning", ENDLESS_MS);
    find_vm(f, pid);
    for (int i = 0; i < 3; i++) {
        uint64_t began = now_ns(), host_ns, vm_ns;
        struct charge charge = sample_charged(f, pid);

        host_ns = f->host.cpu_ns;
        vm_ns = f->vm.cpu_ns;
        check_charge(vm_ns, charge, NULL, 2 * TICK_NS);
        end_daemon(&s, f);
        let_work(pid, 100);
        burn(200 * NSEC_PER_MSEC);
        assert_true(start_daemon(&s, f, real_config));
        charge = sample_charged(f, pid);
        check_charge(f->vm.cpu_ns, charge, NULL, 2 * TICK_NS);
        assert_true(f->host.cpu_ns - host_ns + 50 * NSEC_PER_MSEC > 200 * NSEC_PER_MSEC);
        assert_true(f->host.cpu_ns - host_ns + f->vm.cpu_ns - vm_ns <=
                    (now_ns() - began) * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) +
                        50 * NSEC_PER_MSEC);
    }
    end_worker(pid);
    end_service(&s);
}

/* One VM starts and one ends while nobody looks: both have all that they used. */
static void test_continues_start_and_end(void **state)
{
    struct fixture *f = *state;
    struct successor s;
    struct charge charge;
    uint64_t charged;
    pid_t pid;

    manage_service(&s, f);
    open_provider(f, &real_config);
    sample(f, 0);
    end_daemon(&s, f);
    pid = start_worker(f, "spinning", ENDLESS_MS);
    let_work(pid, 200);
    assert_true(start_daemon(&s, f, real_config));
    find_vm(f, pid);
    charge = sample_charged(f, pid);
    check_charge(f->vm.cpu_ns, charge, NULL, 2 * TICK_NS);
    end_daemon(&s, f);
    let_work(pid, 200);
    kill(pid, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    charged = charged_ns(pid);
    waitpid(pid, NULL, 0);
    assert_true(start_daemon(&s, f, real_config));
    sample(f, 0);
    check_near(f->vm.cpu_ns, charged, 3 * NSEC_PER_MSEC);
    f->vm.cpu_ns = 0;
    sample(f, 0);
    sample(f, 0);
    assert_int_equal(f->vm.cpu_ns, 0);
    end_service(&s);
}

/* The counters of a dead process make room for the next one's. */
static void test_continues_counters(void **state)
{
    static const struct cpu_counter clocks[] = {
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK},
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_MAX + 1}, /* no such */
        {PERF_TYPE_SOFTWARE, PERF_COUNT_SW_MAX + 1},
    };
    struct fixture *f = *state;
    struct bpf_usage_config config = real_config;
    struct successor s;
    pid_t pid;

    config.counters = clocks;
    manage_service(&s, f);
    open_provider(f, &config);
    pid = start_worker(f, "bursts", ENDLESS_MS);
    find_vm(f, pid);
    sample(f, 1);
    for (int i = 0; i < 2; i++) {
        end_daemon(&s, f);
        let_work(pid, 150);
        assert_true(start_daemon(&s, f, config));
        f->vm = (struct usage_socket){0};
        sample(f, 1);
        /* Of the slice in which the counters change some is lost. */
        check_near(f->vm.cycles, f->vm.cpu_ns, f->vm.cpu_ns / 5);
    }
    /* Other counters, other programs. */
    end_daemon(&s, f);
    assert_false(start_daemon(&s, f, real_config));
    end_worker(pid);
    end_service(&s);
}

/* The same descriptors, but said to be of another object. */
static void change_object(struct successor *s)
{
    struct descriptors descriptors = {1, s->handed};
    struct bpf_set set;
    int fds[32], n = 0, r;

    do {
        s->handed[0] = (struct descriptor){dup(s->kept_fd), (char[]){"usage"}};
        r = bpf_handover_take(&descriptors, &set, fds, (size_t)++n);
    } while (r < 0 && n < 32);
    assert_int_equal(r, 0);
    set.object++;
    assert_int_equal(bpf_handover_keep(&set, fds, (size_t)n), 0);
    take_notifications(s);
    for (int i = 0; i < n; i++)
        close(fds[i]);
}

/* Programs that are not the same, or of which it is not known what they counted, are replaced. */
static void test_not_continued(void **state)
{
    struct fixture *f = *state;
    struct bpf_usage_config other = real_config;
    struct successor s;
    pid_t pid = start_worker(f, "spinning", ENDLESS_MS);

    manage_service(&s, f);
    find_vm(f, pid);
    other.processes_max = 1000;
    open_provider(f, &other);
    for (int i = 0; i < 6; i++) {
        struct charge first, charge;
        uint64_t charged;

        sample(f, 1);
        end_daemon(&s, f);
        assert_true(s.kept_fd >= 0);
        if (i == 1)
            s.time_ns++;
        if (i == 2)
            s.state.bytes[s.state.size - 1] ^= 1;
        if (i == 3) { /* no set of programs */
            forget_kept(&s);
            s.kept_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        }
        if (i == 4)
            change_object(&s);
        let_work(pid, 100);
        f->vm.cpu_ns = 0;
        charged = charged_ns(pid);
        assert_int_equal(start_daemon(&s, f, real_config), i == 5);
        first = sample_charged(f, pid);
        /* New programs count from somewhere within the start on. */
        if (i < 5)
            assert_true(f->vm.cpu_ns <= first.after - charged + 3 * TICK_NS);
        f->vm.cpu_ns = 0;
        let_work(pid, 100);
        charge = sample_charged(f, pid);
        check_charge(f->vm.cpu_ns, charge, &first, 3 * TICK_NS);
        assert_true(s.kept_fd >= 0);
    }
    end_worker(pid);
    end_service(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bursts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_short_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spinning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spinning_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_children, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_siblings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_counters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_host, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_continues, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_continues_start_and_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_continues_counters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_continued, set_up, tear_down),
    };

    if (argc == 3)
        return run_worker(argv[1], strtoul(argv[2], NULL, 10) * NSEC_PER_MSEC);
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 77;
    }
    if (getenv("VIRTJOULE_DEBUG"))
        log_set_max_level(LOG_DEBUG);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
