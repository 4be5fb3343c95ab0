/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/procfs.h"

/*
 * The procfs usage provider.
 *
 * CPU time of a process comes from its process clock (clock_getcpuclockid(3)):
 * nanoseconds, threads that already ended included, guest time counted once.
 * /proc/PID/stat has the same sum cut to clock ticks; it serves where the
 * clock does not (a recorded tree).
 *
 * Sockets: on a host with several, each thread's time (task/TID/schedstat)
 * counts to the socket of the CPU it last ran on (task/TID/stat). These sums
 * only set the proportions in which the process' own total is divided, so that
 * threads which came and went within the interval, and so were never seen,
 * lose nothing.
 *
 * Identity: a process is held by a descriptor of its /proc directory. What is
 * read below it fails once the process is gone, whoever got its PID. A clock
 * is read first and the directory after it: if that still answers, the PID,
 * and so the clock, was the process' own.
 *
 * Ends: a pidfd tells that a process ended; its CPU time can be read until its
 * parent has reaped it, so dispatch() reads it at once. That last slice counts
 * to the VM at the next sample.
 *
 * The host's own usage is the CPUs' busy time (util/cpu_busy.h) less all VMs.
 * The two are read by different means, a few ticks apart: a negative rest is
 * carried to the next interval, not clipped.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/cpu_busy.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/proc_text.h"
#include "util/topology.h"

struct thread {
    pid_t tid;
    uint64_t cpu_ns;
    bool seen;
};

struct process {
    struct process_id id;
    uuid_t uuid;
    enum vm_process_role role;
    int dir_fd; /* /proc/PID */
    int pid_fd; /* -1 where the kernel gave none */
    bool has_clock;
    clockid_t clock;
    uint64_t total_ns;   /* CPU time when last read */
    uint64_t pending_ns; /* the part of it that no sample has had yet */
    uint64_t io_bytes;   /* the same for block I/O */
    uint64_t pending_io;
    uint64_t memory_bytes;
    uint64_t split[SOCKETS_MAX]; /* proportions of the last interval that had any */
    struct thread *threads;      /* sorted by tid; only with several sockets */
    size_t n_threads;
    bool ended;
    bool listed; /* in the current VM table */
    struct process *next;
};

struct procfs_usage {
    struct usage_provider head;
    bool live; /* proc_root is the running kernel's */
    int proc_fd;
    int epoll_fd;
    uint64_t tick_ns;
    struct cpu_busy *busy;
    struct topology topology;
    unsigned n_sockets;
    uint64_t last_sample_ns; /* CLOCK_BOOTTIME, as start times are; 0 before the first sample */
    uint64_t last_busy_ns[SOCKETS_MAX];
    int64_t host_carry_ns[SOCKETS_MAX]; /* <= 0 */
    struct process *processes;
    void *by_id; /* tsearch(3) tree of the same */
};

static int compare_process(const void *a, const void *b)
{
    const struct process_id *x = &((const struct process *)a)->id;
    const struct process_id *y = &((const struct process *)b)->id;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return (x->start_ticks > y->start_ticks) - (x->start_ticks < y->start_ticks);
}

static struct process *process_free(struct process *process)
{
    if (process) {
        if (process->dir_fd >= 0)
            close(process->dir_fd);
        if (process->pid_fd >= 0)
            close(process->pid_fd);
        free(process->threads);
        free(process);
    }
    return NULL;
}
DEFINE_CLEANUP(struct process *, process_free);

static int read_stat(int dir_fd, const char *path, struct proc_stat *ret)
{
    char text[1024];
    ssize_t length = read_file(dir_fd, path, text, sizeof(text));

    if (length < 0)
        return (int)length;
    return parse_proc_stat(text, (size_t)length, ret);
}

/* The process' CPU time and state; -ESRCH or -ENOENT when it is gone. */
static int read_process(const struct procfs_usage *usage, const struct process *process,
                        uint64_t *ret_total_ns, struct proc_stat *ret_stat)
{
    struct timespec clock = {0};
    bool has_clock = process->has_clock && clock_gettime(process->clock, &clock) == 0;
    int r = read_stat(process->dir_fd, "stat", ret_stat);

    if (r < 0)
        return r;
    if (process->has_clock && !has_clock)
        return -ESRCH;
    *ret_total_ns = has_clock ? (uint64_t)clock.tv_sec * NSEC_PER_SEC + (uint64_t)clock.tv_nsec
                              : (ret_stat->utime_ticks + ret_stat->stime_ticks) * usage->tick_ns;
    return 0;
}

static uint64_t read_io(const struct process *process)
{
    char text[512];
    ssize_t length = read_file(process->dir_fd, "io", text, sizeof(text));
    uint64_t bytes = 0;

    /* Kernel threads and kernels without accounting have none. */
    if (length > 0)
        parse_proc_io(text, (size_t)length, &bytes);
    return bytes;
}

/* Resident bytes. A helper maps the guest's memory as well: only its own counts. */
static uint64_t read_memory(const struct process *process)
{
    char text[4096];
    ssize_t length = read_file(process->dir_fd, "status", text, sizeof(text));
    struct proc_memory memory;

    if (length < 0 || parse_proc_memory(text, (size_t)length, &memory) < 0)
        return 0;
    if (process->role == VM_PROCESS_HELPER)
        return memory.anonymous;
    return memory.anonymous + memory.file + memory.shared + memory.huge;
}

static unsigned socket_of(const struct procfs_usage *usage, int cpu)
{
    return cpu >= 0 && (size_t)cpu < usage->topology.n_cpus ? usage->topology.socket[cpu] : 0;
}

static int compare_thread(const void *a, const void *b)
{
    const struct thread *x = a, *y = b;

    return (x->tid > y->tid) - (x->tid < y->tid);
}

static int read_thread(const struct process *process, const char *tid, uint64_t *ret_cpu_ns,
                       int *ret_cpu)
{
    char path[64], text[128];
    struct proc_stat stat;
    uint64_t cpu_ns;
    ssize_t length;
    int r;

    snprintf(path, sizeof(path), "task/%.16s/schedstat", tid);
    length = read_file(process->dir_fd, path, text, sizeof(text));
    if (length < 0)
        return (int)length;
    r = parse_proc_schedstat(text, (size_t)length, &cpu_ns);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "task/%.16s/stat", tid);
    r = read_stat(process->dir_fd, path, &stat);
    if (r < 0)
        return r;
    *ret_cpu_ns = cpu_ns;
    *ret_cpu = stat.processor;
    return 0;
}

/* Adds what each thread used since the last call to split[socket of the CPU it ran on]. */
static int split_threads(const struct procfs_usage *usage, struct process *process, uint64_t *split)
{
    int task_fd = openat(process->dir_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *task = task_fd >= 0 ? fdopendir(task_fd) : NULL;
    _cleanup_free_ struct thread *threads = NULL;
    size_t n = 0, allocated = 0;
    struct dirent *entry;

    if (!task) {
        if (task_fd >= 0)
            close(task_fd);
        return 0; /* it just ended */
    }
    while ((entry = readdir(task))) {
        struct thread thread = {0};
        const struct thread *last;
        uint64_t tid;
        int cpu = -1;

        if (parse_u64(entry->d_name, strlen(entry->d_name), &tid) < 0)
            continue;
        thread.tid = (pid_t)tid;
        if (read_thread(process, entry->d_name, &thread.cpu_ns, &cpu) < 0)
            continue; /* it just ended */
        last =
            bsearch(&thread, process->threads, process->n_threads, sizeof(thread), compare_thread);
        /* A TID given to another thread starts below where the old one ended. */
        split[socket_of(usage, cpu)] +=
            last && last->cpu_ns <= thread.cpu_ns ? thread.cpu_ns - last->cpu_ns : thread.cpu_ns;
        if (n == allocated) {
            struct thread *grown;

            allocated = allocated ? 2 * allocated : 16;
            grown = realloc(threads, allocated * sizeof(*threads));
            if (!grown)
                return -ENOMEM;
            threads = grown;
        }
        threads[n++] = thread;
    }
    qsort(threads, n, sizeof(*threads), compare_thread);
    free(process->threads);
    process->threads = TAKE_PTR(threads);
    process->n_threads = n;
    return 0;
}

/* Divides a process' CPU time over the sockets in the proportions of its split. */
static void add_cpu_time(const struct process *process, uint64_t cpu_ns, uint64_t *ret)
{
    uint64_t sum = 0, given = 0;
    unsigned largest = 0;

    for (unsigned s = 0; s < SOCKETS_MAX; s++) {
        sum += process->split[s];
        if (process->split[s] > process->split[largest])
            largest = s;
    }
    for (unsigned s = 0; s < SOCKETS_MAX && sum; s++) {
        uint64_t part = (uint64_t)((__uint128_t)cpu_ns * process->split[s] / sum);

        ret[s] += part;
        given += part;
    }
    ret[largest] += cpu_ns - given;
}

static int update_split(const struct procfs_usage *usage, struct process *process, int cpu)
{
    uint64_t split[SOCKETS_MAX] = {0};
    bool any = false;
    int r;

    if (usage->n_sockets > 1) {
        r = split_threads(usage, process, split);
        if (r < 0)
            return r;
        for (unsigned s = 0; s < SOCKETS_MAX; s++)
            any |= split[s] > 0;
        if (!any)
            split[socket_of(usage, cpu)] = 1;
    } else {
        split[0] = 1;
    }
    memcpy(process->split, split, sizeof(split));
    return 0;
}

/* True if the process was born after the last sample: then all it did belongs to this interval. */
static bool is_newborn(const struct procfs_usage *usage, const struct process *process)
{
    /* Its start time is cut to ticks, so it may seem to be up to one tick older. */
    return usage->last_sample_ns &&
           (process->id.start_ticks + 1) * usage->tick_ns > usage->last_sample_ns;
}

static void watch_end(struct procfs_usage *usage, struct process *process)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};

    process->pid_fd = (int)syscall(SYS_pidfd_open, process->id.pid, 0);
    if (process->pid_fd >= 0)
        epoll_ctl(usage->epoll_fd, EPOLL_CTL_ADD, process->pid_fd, &event);
}

/* @return 0, -ESRCH when the process is gone or no longer the same, or -ENOMEM */
static int track_process(struct procfs_usage *usage, const struct vm *vm,
                         const struct vm_process *found, struct process **ret)
{
    _cleanup_(cleanup_process_free) struct process *process = calloc(1, sizeof(*process));
    char pid[16];
    struct proc_stat stat;
    uint64_t total_ns;

    if (!process)
        return -ENOMEM;
    process->pid_fd = -1;
    process->id = found->id;
    process->role = found->role;
    uuid_copy(process->uuid, vm->uuid);
    snprintf(pid, sizeof(pid), "%d", found->id.pid);
    process->dir_fd = openat(usage->proc_fd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (process->dir_fd < 0)
        return -ESRCH;
    process->has_clock = usage->live && clock_getcpuclockid(found->id.pid, &process->clock) == 0;
    if (usage->live)
        watch_end(usage, process);
    if (read_process(usage, process, &total_ns, &stat) < 0 ||
        stat.start_ticks != found->id.start_ticks ||
        update_split(usage, process, stat.processor) < 0)
        return -ESRCH;
    if (!is_newborn(usage, process)) {
        process->total_ns = total_ns;
        process->io_bytes = read_io(process);
    }
    if (!tsearch(process, &usage->by_id, compare_process))
        return -ENOMEM;
    process->next = usage->processes;
    usage->processes = process;
    *ret = TAKE_PTR(process);
    return 0;
}

static int track_vms(struct procfs_usage *usage, const struct vm_table *vms)
{
    for (struct process *process = usage->processes; process; process = process->next)
        process->listed = false;
    for (size_t i = 0; i < vms->n; i++)
        for (size_t j = 0; j < vms->vms[i].n_processes; j++) {
            const struct vm_process *found = &vms->vms[i].processes[j];
            struct process key = {.id = found->id};
            struct process **known = tfind(&key, &usage->by_id, compare_process);
            struct process *process = known ? *known : NULL;

            if (!process) {
                int r = track_process(usage, &vms->vms[i], found, &process);

                if (r == -ENOMEM)
                    return r;
                if (r < 0)
                    continue; /* its end was quicker */
            }
            process->listed = true;
        }
    return 0;
}

/* Reads what the process used since it was last read into pending; false when it is gone. */
static bool read_pending(const struct procfs_usage *usage, struct process *process, int *ret_cpu)
{
    struct proc_stat stat;
    uint64_t total_ns, io_bytes = read_io(process);

    if (read_process(usage, process, &total_ns, &stat) < 0)
        return false;
    if (total_ns > process->total_ns) {
        process->pending_ns += total_ns - process->total_ns;
        process->total_ns = total_ns;
    }
    if (io_bytes > process->io_bytes) {
        process->pending_io += io_bytes - process->io_bytes;
        process->io_bytes = io_bytes;
    }
    *ret_cpu = stat.processor;
    return true;
}

static int refresh_process(const struct procfs_usage *usage, struct process *process)
{
    int cpu = -1;

    if (process->ended)
        return 0;
    if (!read_pending(usage, process, &cpu)) {
        process->ended = true;
        process->memory_bytes = 0;
        return 0;
    }
    process->memory_bytes = read_memory(process);
    return update_split(usage, process, cpu);
}

static void take_pending(struct process *process, struct usage_amount *amount)
{
    add_cpu_time(process, process->pending_ns, amount->cpu_ns);
    amount->io_bytes += process->pending_io;
    amount->memory_bytes += process->memory_bytes;
    process->pending_ns = 0;
    process->pending_io = 0;
}

static int compare_usage_vm(const void *a, const void *b)
{
    return uuid_compare(((const struct usage_vm *)a)->uuid, ((const struct usage_vm *)b)->uuid);
}

/* One usage_vm per UUID among the tracked processes, sorted. */
static int list_vms(const struct procfs_usage *usage, struct usage_vm **ret, size_t *ret_n)
{
    _cleanup_free_ struct usage_vm *vms = NULL;
    size_t n = 0, unique = 0;

    for (const struct process *p = usage->processes; p; p = p->next)
        n++;
    vms = calloc(n ? n : 1, sizeof(*vms));
    if (!vms)
        return -ENOMEM;
    n = 0;
    for (const struct process *p = usage->processes; p; p = p->next)
        uuid_copy(vms[n++].uuid, p->uuid);
    qsort(vms, n, sizeof(*vms), compare_usage_vm);
    for (size_t i = 0; i < n; i++)
        if (unique == 0 || uuid_compare(vms[unique - 1].uuid, vms[i].uuid) != 0)
            vms[unique++] = vms[i];
    *ret = TAKE_PTR(vms);
    *ret_n = unique;
    return 0;
}

static void drop_gone(struct procfs_usage *usage)
{
    struct process **link = &usage->processes;

    while (*link) {
        struct process *process = *link;

        if (!process->ended && process->listed) {
            link = &process->next;
            continue;
        }
        *link = process->next;
        tdelete(process, &usage->by_id, compare_process);
        process_free(process);
    }
}

/* The CPUs' busy time since the last sample, less what the VMs had of it. */
static void take_host(struct procfs_usage *usage, struct usage *ret)
{
    uint64_t busy_ns[SOCKETS_MAX] = {0};

    for (size_t cpu = 0; cpu < cpu_busy_count(usage->busy); cpu++)
        busy_ns[socket_of(usage, (int)cpu)] += cpu_busy_ns(usage->busy, cpu);
    for (unsigned s = 0; s < SOCKETS_MAX; s++) {
        int64_t rest = (int64_t)(busy_ns[s] - usage->last_busy_ns[s]) + usage->host_carry_ns[s];

        for (size_t i = 0; i < ret->n_vms; i++)
            rest -= (int64_t)ret->vms[i].amount.cpu_ns[s];
        /* No more than a second: a clock that disagrees for ever must not starve the host. */
        usage->host_carry_ns[s] = rest < -(int64_t)NSEC_PER_SEC ? -(int64_t)NSEC_PER_SEC
                                  : rest < 0                    ? rest
                                                                : 0;
        ret->host.cpu_ns[s] = rest > 0 ? (uint64_t)rest : 0;
        usage->last_busy_ns[s] = busy_ns[s];
    }
}

static uint64_t read_host_memory(const struct procfs_usage *usage, const struct usage *vms)
{
    char text[8192];
    ssize_t length = read_file(usage->proc_fd, "meminfo", text, sizeof(text));
    uint64_t used = 0, of_vms = 0;

    if (length < 0 || parse_proc_meminfo_used(text, (size_t)length, &used) < 0)
        return 0;
    for (size_t i = 0; i < vms->n_vms; i++)
        of_vms += vms->vms[i].amount.memory_bytes;
    return used > of_vms ? used - of_vms : 0;
}

static int procfs_sample(struct usage_provider *provider, const struct vm_table *vms,
                         struct usage *ret)
{
    struct procfs_usage *usage = (struct procfs_usage *)provider;
    struct usage result = {.n_sockets = usage->n_sockets};
    int r;

    /* All that can fail comes before the first pending amount is taken. */
    r = track_vms(usage, vms);
    if (r < 0)
        return r;
    for (struct process *p = usage->processes; p; p = p->next) {
        r = refresh_process(usage, p);
        if (r < 0)
            return r;
    }
    r = cpu_busy_update(usage->busy, now_ns());
    if (r < 0)
        return r;
    r = list_vms(usage, &result.vms, &result.n_vms);
    if (r < 0)
        return r;
    for (struct process *p = usage->processes; p; p = p->next) {
        struct usage_vm key, *vm;

        uuid_copy(key.uuid, p->uuid);
        vm = bsearch(&key, result.vms, result.n_vms, sizeof(key), compare_usage_vm);
        take_pending(p, &vm->amount);
    }
    drop_gone(usage);
    take_host(usage, &result);
    result.host.memory_bytes = read_host_memory(usage, &result);
    usage->last_sample_ns = clock_ns(CLOCK_BOOTTIME);
    *ret = result;
    return 0;
}

static int procfs_event_fd(const struct usage_provider *provider)
{
    return ((const struct procfs_usage *)provider)->epoll_fd;
}

static void procfs_dispatch(struct usage_provider *provider)
{
    struct procfs_usage *usage = (struct procfs_usage *)provider;
    struct epoll_event events[16];
    int n = epoll_wait(usage->epoll_fd, events, 16, 0);

    for (int i = 0; i < n; i++) {
        struct process *process = events[i].data.ptr;
        int cpu;

        read_pending(usage, process, &cpu);
        process->memory_bytes = 0;
        process->ended = true;
        epoll_ctl(usage->epoll_fd, EPOLL_CTL_DEL, process->pid_fd, NULL);
    }
}

static void ignore_node(void *node)
{
}

static void procfs_free(struct usage_provider *provider)
{
    struct procfs_usage *usage = (struct procfs_usage *)provider;

    tdestroy(usage->by_id, ignore_node);
    while (usage->processes) {
        struct process *process = usage->processes;

        usage->processes = process->next;
        process_free(process);
    }
    cpu_busy_free(usage->busy);
    topology_deinit(&usage->topology);
    if (usage->epoll_fd >= 0)
        close(usage->epoll_fd);
    if (usage->proc_fd >= 0)
        close(usage->proc_fd);
    free(usage);
}

static const struct usage_provider_ops procfs_usage_ops = {
    .name = "procfs",
    .sample = procfs_sample,
    .event_fd = procfs_event_fd,
    .dispatch = procfs_dispatch,
    .free = procfs_free,
};

DEFINE_CLEANUP(struct usage_provider *, usage_provider_free);

int procfs_usage_new(struct usage_provider **ret, const char *proc_root, const char *sysfs_root)
{
    _cleanup_(cleanup_usage_provider_free) struct usage_provider *provider = NULL;
    struct procfs_usage *usage = calloc(1, sizeof(*usage));
    size_t n_cpus;
    int r;

    if (!usage)
        return -ENOMEM;
    provider = &usage->head;
    provider->ops = &procfs_usage_ops;
    usage->live = strcmp(proc_root, "/proc") == 0;
    usage->tick_ns = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
    usage->proc_fd = open(proc_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    usage->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r = cpu_busy_new(&usage->busy, proc_root);
    if (r < 0)
        return r;
    /* Configured CPUs, not only those online now. */
    n_cpus = (size_t)sysconf(_SC_NPROCESSORS_CONF);
    if (cpu_busy_count(usage->busy) > n_cpus)
        n_cpus = cpu_busy_count(usage->busy);
    r = topology_read(&usage->topology, sysfs_root, n_cpus, SOCKETS_MAX);
    if (r < 0)
        return r;
    for (size_t cpu = 0; cpu < n_cpus; cpu++)
        if (usage->topology.socket[cpu] >= usage->n_sockets)
            usage->n_sockets = usage->topology.socket[cpu] + 1u;
    if (usage->proc_fd < 0 || usage->epoll_fd < 0) {
        log_error("cannot read usage", F_STRING("directory", proc_root), F_ERROR(errno));
        return -EIO;
    }
    *ret = TAKE_PTR(provider);
    return 0;
}
