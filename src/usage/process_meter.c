/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/process_meter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/proc_text.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/parse.h"

struct thread {
    pid_t tid;
    uint64_t cpu_ns;
};

/* A total that only grows: as last read, and the part that has not been taken. */
struct counter {
    uint64_t total;
    uint64_t pending;
};

struct process_meter {
    int dir_fd; /* /proc/PID */
    bool has_clock;
    clockid_t clock;
    struct counter cpu_ns;
    struct counter io_bytes;
    uint64_t split[PACKAGES_MAX]; /* proportions of the last update */
    struct thread *threads;       /* sorted by tid; only with several sockets */
    size_t n_threads;
};

static void counter_advance(struct counter *counter, uint64_t total)
{
    if (total <= counter->total)
        return;
    counter->pending += total - counter->total;
    counter->total = total;
}

static int read_stat(int dir_fd, const char *path, struct proc_stat *ret)
{
    char text[1024];
    ssize_t length = read_file(dir_fd, path, text, sizeof(text));

    if (length < 0)
        return (int)length;
    return parse_proc_stat(text, (size_t)length, ret);
}

/* Reads CPU time and state. @return 0, -ESRCH when the process is gone, or -ENOMEM or -EMFILE */
static int read_cpu(const struct process_meter *meter, uint64_t *ret_cpu_ns,
                    struct proc_stat *ret_stat)
{
    struct timespec clock;
    bool clocked = meter->has_clock && clock_gettime(meter->clock, &clock) == 0;
    int r = read_stat(meter->dir_fd, "stat", ret_stat);

    if (is_shortage(r))
        return r;
    if (r < 0 || clocked != meter->has_clock)
        return -ESRCH;
    *ret_cpu_ns = clocked ? (uint64_t)clock.tv_sec * NSEC_PER_SEC + (uint64_t)clock.tv_nsec
                          : (ret_stat->utime_ticks + ret_stat->stime_ticks) *
                                (NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
    return 0;
}

static uint64_t read_io(const struct process_meter *meter)
{
    char text[512];
    ssize_t length = read_file(meter->dir_fd, "io", text, sizeof(text));
    uint64_t bytes = 0;

    /* Kernel threads and kernels without I/O accounting have none. */
    if (length > 0)
        parse_proc_io(text, (size_t)length, &bytes);
    return bytes;
}

static unsigned socket_of(const struct process_meter_root *root, int cpu)
{
    return cpu >= 0 && (size_t)cpu < root->topology->n_cpus ? root->topology->socket[cpu] : 0;
}

static int compare_thread(const void *a, const void *b)
{
    const struct thread *x = a, *y = b;

    return (x->tid > y->tid) - (x->tid < y->tid);
}

static int read_thread_cpu_ns(const struct process_meter *meter, const char *tid, uint64_t *ret)
{
    char path[64], text[128];
    ssize_t length;

    snprintf(path, sizeof(path), "task/%.16s/schedstat", tid);
    length = read_file(meter->dir_fd, path, text, sizeof(text));
    if (length < 0)
        return -ESRCH;
    return parse_proc_schedstat(text, (size_t)length, ret);
}

/* Reads the CPU on which a thread ran last. */
static int read_thread_cpu(const struct process_meter *meter, const char *tid, int *ret)
{
    struct proc_stat stat;
    char path[64];

    snprintf(path, sizeof(path), "task/%.16s/stat", tid);
    if (read_stat(meter->dir_fd, path, &stat) < 0)
        return -ESRCH;
    *ret = stat.processor;
    return 0;
}

static uint64_t used_before(const struct process_meter *meter, const struct thread *thread)
{
    const struct thread *last = NULL;

    if (meter->n_threads)
        last = bsearch(thread, meter->threads, meter->n_threads, sizeof(*thread), compare_thread);
    /* A reused TID starts below the time at which the old thread ended. */
    return last && last->cpu_ns <= thread->cpu_ns ? last->cpu_ns : 0;
}

/* Adds what each thread used since the last call to split[socket of the CPU it ran on]. */
static int split_threads(struct process_meter *meter, const struct process_meter_root *root,
                         uint64_t *split)
{
    _cleanup_close_ int task_fd = openat(meter->dir_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *task = task_fd >= 0 ? fdopendir(task_fd) : NULL;
    _cleanup_free_ struct thread *threads = NULL;
    size_t n = 0, allocated = 0;
    struct dirent *entry;

    if (!task)
        return is_shortage(-errno) ? -errno : 0 /* it just ended */;
    task_fd = -1; /* the stream owns it */
    while ((entry = readdir(task))) {
        struct thread thread = {0};
        uint64_t tid, used_ns;
        int cpu;

        if (parse_u64(entry->d_name, strlen(entry->d_name), &tid) < 0)
            continue;
        thread.tid = (pid_t)tid;
        if (read_thread_cpu_ns(meter, entry->d_name, &thread.cpu_ns) < 0)
            continue; /* it just ended */
        used_ns = thread.cpu_ns - used_before(meter, &thread);
        /* Most threads sleep: the CPU on which they last ran does not matter. */
        if (used_ns > 0) {
            if (read_thread_cpu(meter, entry->d_name, &cpu) < 0)
                continue;
            split[socket_of(root, cpu)] += used_ns;
        }
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
    if (n)
        qsort(threads, n, sizeof(*threads), compare_thread);
    free(meter->threads);
    meter->threads = TAKE_PTR(threads);
    meter->n_threads = n;
    return 0;
}

static int update_split(struct process_meter *meter, const struct process_meter_root *root, int cpu)
{
    uint64_t split[PACKAGES_MAX] = {0};
    bool any = false;

    if (root->n_sockets > 1) {
        int r = split_threads(meter, root, split);

        if (r < 0)
            return r;
    }
    for (unsigned s = 0; s < PACKAGES_MAX; s++)
        any |= split[s] > 0;
    if (!any)
        split[socket_of(root, cpu)] = 1;
    memcpy(meter->split, split, sizeof(split));
    return 0;
}

/* Divides CPU time over the sockets in the proportions of the split. */
static void add_cpu_time(const struct process_meter *meter, uint64_t cpu_ns,
                         struct usage_amount *ret)
{
    uint64_t sum = 0, given = 0;
    unsigned largest = 0;

    for (unsigned s = 0; s < PACKAGES_MAX; s++) {
        sum += meter->split[s];
        if (meter->split[s] > meter->split[largest])
            largest = s;
    }
    for (unsigned s = 0; s < PACKAGES_MAX; s++) {
        uint64_t part = (uint64_t)((__uint128_t)cpu_ns * meter->split[s] / sum);

        ret->sockets[s].cpu_ns += part;
        given += part;
    }
    ret->sockets[largest].cpu_ns += cpu_ns - given;
}

struct process_meter *process_meter_free(struct process_meter *meter)
{
    if (meter) {
        if (meter->dir_fd >= 0)
            close(meter->dir_fd);
        free(meter->threads);
        free(meter);
    }
    return NULL;
}
DEFINE_CLEANUP(struct process_meter *, process_meter_free);

int process_meter_new(struct process_meter **ret, const struct process_meter_root *root,
                      struct process_id id)
{
    _cleanup_(cleanup_process_meter_free) struct process_meter *meter = calloc(1, sizeof(*meter));
    struct proc_stat stat;
    char pid[16];
    int r;

    if (!meter)
        return -ENOMEM;
    snprintf(pid, sizeof(pid), "%d", id.pid);
    meter->dir_fd = openat(root->proc_fd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (meter->dir_fd < 0)
        return is_shortage(-errno) ? -errno : -ESRCH;
    meter->has_clock = root->live && clock_getcpuclockid(id.pid, &meter->clock) == 0;
    meter->io_bytes.total = read_io(meter);
    r = read_cpu(meter, &meter->cpu_ns.total, &stat);
    if (r < 0)
        return r;
    if (stat.start_ticks != id.start_ticks)
        return -ESRCH;
    r = update_split(meter, root, stat.processor);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(meter);
    return 0;
}

struct process_totals process_meter_totals(const struct process_meter *meter)
{
    return (struct process_totals){meter->cpu_ns.total, meter->io_bytes.total};
}

static void counter_from(struct counter *counter, uint64_t total)
{
    counter->pending = counter->total > total ? counter->total - total : 0;
}

void process_meter_count_from(struct process_meter *meter, struct process_totals totals)
{
    counter_from(&meter->cpu_ns, totals.cpu_ns);
    counter_from(&meter->io_bytes, totals.io_bytes);
}

static int read_counters(struct process_meter *meter, int *ret_cpu)
{
    uint64_t cpu_ns, io_bytes = read_io(meter);
    struct proc_stat stat;
    int r = read_cpu(meter, &cpu_ns, &stat);

    if (r < 0)
        return r;
    counter_advance(&meter->cpu_ns, cpu_ns);
    counter_advance(&meter->io_bytes, io_bytes);
    *ret_cpu = stat.processor;
    return 0;
}

int process_meter_update(struct process_meter *meter, const struct process_meter_root *root)
{
    int cpu;
    int r = read_counters(meter, &cpu);

    if (r < 0)
        return r;
    return update_split(meter, root, cpu);
}

void process_meter_update_ended(struct process_meter *meter)
{
    int cpu;

    read_counters(meter, &cpu);
}

void process_meter_note_cpu(struct process_meter *meter, uint64_t cpu_ns)
{
    counter_advance(&meter->cpu_ns, cpu_ns);
}

void process_meter_take(struct process_meter *meter, struct usage_amount *amount)
{
    add_cpu_time(meter, meter->cpu_ns.pending, amount);
    amount->io_bytes += meter->io_bytes.pending;
    meter->cpu_ns.pending = 0;
    meter->io_bytes.pending = 0;
}
