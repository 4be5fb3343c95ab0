/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/procfs.h"

/*
 * The procfs usage provider: a process meter for each process of a VM; the rest
 * of the CPUs' busy time is the host's.
 *
 * Starts: a process that started after the last sample, or a moment before it,
 * counts from its start; an older one counts from now on.
 *
 * Ends: the kernel reports each process' last CPU time (exit_listener.h), and a
 * pidfd reports its end. Where the kernel does not report the time, it can be read
 * until the parent has reaped the process, so the provider's dispatch function reads it
 * at once. The last slice counts to the VM at the next sample.
 */

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "memory/memory.h"
#include "usage/exit_listener.h"
#include "usage/host_cpus.h"
#include "usage/process_meter.h"
#include "usage/usage_state.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/watchdog.h"

/* From the fork of a process to its exec. */
#define PREPARATION_NS (2 * NSEC_PER_SEC)

struct process {
    struct process_id id; /* first: the search key */
    uuid_t uuid;          /* of its VM */
    struct process_meter *meter;
    int pid_fd; /* -1 where there is none */
    bool ended;
    bool listed; /* in the current VM table */
    struct process *next;
};

/* A process as a former daemon counted it last; also as it is saved. */
struct former_process {
    struct process_id id; /* first: the search key */
    struct process_totals totals;
};

struct procfs_usage {
    struct usage_provider head;
    struct process_meter_root root;
    int epoll_fd;                /* the listener (data.ptr NULL) and a pidfd per process */
    struct exit_listener *exits; /* NULL where the kernel refuses */
    struct host_cpus *cpus;
    struct memory_reader *memory;
    uint64_t last_sample_ns; /* CLOCK_BOOTTIME, as start times are; 0 before the first sample */
    struct process *processes;
    void *by_id;                   /* tsearch(3) tree of the same */
    struct former_process *former; /* sorted; until the first sample has found them again */
    size_t n_former;
};

static int compare_process(const void *a, const void *b)
{
    const struct process_id *x = &((const struct process *)a)->id;
    const struct process_id *y = &((const struct process *)b)->id;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return (x->start_ticks > y->start_ticks) - (x->start_ticks < y->start_ticks);
}

/* The tree's order, by PID alone. */
static int compare_pid(const void *a, const void *b)
{
    pid_t x = ((const struct process *)a)->id.pid, y = ((const struct process *)b)->id.pid;

    return (x > y) - (x < y);
}

static struct process *process_free(struct process *process)
{
    if (process) {
        process_meter_free(process->meter);
        if (process->pid_fd >= 0)
            close(process->pid_fd);
        free(process);
    }
    return NULL;
}
DEFINE_CLEANUP(struct process *, process_free);

/*
 * Whether all of the process' usage is the VM's. A manager that starts QEMU forks, prepares
 * and execs: when the last sample fell in between, the process had started before it,
 * but hardly worked.
 */
static bool is_newborn(const struct procfs_usage *usage, const struct process *process)
{
    uint64_t tick_ns = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);

    return usage->last_sample_ns &&
           process->id.start_ticks * tick_ns + PREPARATION_NS > usage->last_sample_ns;
}

static void count_past(const struct procfs_usage *usage, struct process *process)
{
    const struct former_process *former = NULL;

    if (usage->n_former)
        former =
            bsearch(&process->id, usage->former, usage->n_former, sizeof(*former), compare_process);
    if (former)
        process_meter_count_from(process->meter, former->totals);
    else if (is_newborn(usage, process))
        process_meter_count_from(process->meter, (struct process_totals){0});
}

static void watch_end(struct procfs_usage *usage, struct process *process)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};

    process->pid_fd = (int)syscall(SYS_pidfd_open, process->id.pid, 0);
    if (process->pid_fd >= 0)
        epoll_ctl(usage->epoll_fd, EPOLL_CTL_ADD, process->pid_fd, &event);
}

/* @return 0, -ESRCH when the process is gone or no longer the same, or -ENOMEM or -EMFILE */
static int track_process(struct procfs_usage *usage, const struct vm *vm,
                         const struct vm_process *found, struct process **ret)
{
    _cleanup_(cleanup_process_free) struct process *process = calloc(1, sizeof(*process));
    int r;

    if (!process)
        return -ENOMEM;
    process->pid_fd = -1;
    process->id = found->id;
    uuid_copy(process->uuid, vm->uuid);
    if (usage->root.live)
        watch_end(usage, process);
    r = process_meter_new(&process->meter, &usage->root, found->id);
    if (r < 0)
        return r;
    count_past(usage, process);
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

            watchdog_feed();
            if (!process) {
                int r = track_process(usage, &vms->vms[i], found, &process);

                if (r == -ESRCH)
                    continue; /* it ended meanwhile */
                if (r < 0)
                    return r;
            }
            process->listed = true;
        }
    return 0;
}

static void on_exit_told(pid_t pid, uint64_t cpu_ns, void *userdata)
{
    struct procfs_usage *usage = userdata;
    struct process key = {.id.pid = pid};
    struct process **known = tfind(&key, &usage->by_id, compare_pid);

    if (known && !(*known)->ended)
        process_meter_note_cpu((*known)->meter, cpu_ns);
}

static void take_exits(struct procfs_usage *usage)
{
    if (usage->exits)
        exit_listener_dispatch(usage->exits, on_exit_told, usage);
}

static int update_process(struct procfs_usage *usage, struct process *process)
{
    int r;

    watchdog_feed();
    if (process->ended)
        return 0;
    r = process_meter_update(process->meter, &usage->root);
    if (r == -ESRCH) {
        take_exits(usage);
        process->ended = true;
        return 0;
    }
    return r;
}

static int list_vms(const struct procfs_usage *usage, struct usage *ret)
{
    _cleanup_free_ uuid_t *uuids = NULL;
    size_t n = 0;

    for (const struct process *p = usage->processes; p; p = p->next)
        n++;
    uuids = calloc(n + 1, sizeof(*uuids));
    if (!uuids)
        return -ENOMEM;
    n = 0;
    for (const struct process *p = usage->processes; p; p = p->next)
        uuid_copy(uuids[n++], p->uuid);
    return usage_init_vms(ret, uuids, n);
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

static int procfs_sample(struct usage_provider *provider, const struct vm_table *vms,
                         struct usage *ret)
{
    struct procfs_usage *usage = (struct procfs_usage *)provider;
    struct usage result = {0};
    int r;

    /* Everything that can fail comes before the first pending amount is taken. */
    r = track_vms(usage, vms);
    if (r < 0)
        return r;
    for (struct process *p = usage->processes; p; p = p->next) {
        r = update_process(usage, p);
        if (r < 0)
            return r;
    }
    r = host_cpus_update(usage->cpus);
    if (r < 0)
        return r;
    usage->root.n_sockets = result.n_sockets = host_cpus_n_sockets(usage->cpus);
    r = list_vms(usage, &result);
    if (r < 0)
        return r;
    for (struct process *p = usage->processes; p; p = p->next)
        process_meter_take(p->meter, usage_find_amount(&result, p->uuid));
    drop_gone(usage);
    host_cpus_take(usage->cpus, &result);
    r = memory_reader_sample(usage->memory, vms, &result);
    if (r < 0)
        log_warning("memory was not read", F_ERROR(r));
    usage->last_sample_ns = clock_ns(CLOCK_BOOTTIME);
    free(TAKE_PTR(usage->former));
    usage->n_former = 0;
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

    /* Before the pidfds: the last report on a process covers its whole usage. */
    take_exits(usage);
    for (int i = 0; i < n; i++) {
        struct process *process = events[i].data.ptr;

        if (!process)
            continue;
        process_meter_update_ended(process->meter);
        process->ended = true;
        epoll_ctl(usage->epoll_fd, EPOLL_CTL_DEL, process->pid_fd, NULL);
    }
}

/* The state for the next daemon: the moment, the processes, and the host's CPUs. */
static int procfs_save(const struct usage_provider *provider, struct buffer *ret)
{
    const struct procfs_usage *usage = (const struct procfs_usage *)provider;
    uint64_t head[2] = {usage->last_sample_ns};
    int r;

    for (const struct process *p = usage->processes; p; p = p->next)
        head[1]++;
    r = buffer_append(ret, head, sizeof(head));
    for (const struct process *p = usage->processes; p && r == 0; p = p->next) {
        struct former_process saved;

        memset(&saved, 0, sizeof(saved)); /* its padding is saved as well */
        saved.id.pid = p->id.pid;
        saved.id.start_ticks = p->id.start_ticks;
        saved.totals = process_meter_totals(p->meter);
        r = buffer_append(ret, &saved, sizeof(saved));
    }
    return r < 0 ? r : host_cpus_save(usage->cpus, ret);
}

static int restore(struct procfs_usage *usage, struct bytes *state)
{
    const uint64_t *head = bytes_take(state, 2, sizeof(*head));
    const struct former_process *processes =
        head ? bytes_take(state, head[1], sizeof(*processes)) : NULL;
    int r;

    if (!processes || head[0] > clock_ns(CLOCK_BOOTTIME))
        return -EBADMSG;
    usage->former = calloc(head[1] + 1, sizeof(*usage->former));
    if (!usage->former)
        return -ENOMEM;
    r = host_cpus_restore(usage->cpus, state);
    if (r < 0)
        return r;
    memcpy(usage->former, processes, head[1] * sizeof(*processes));
    usage->n_former = head[1];
    qsort(usage->former, usage->n_former, sizeof(*usage->former), compare_process);
    usage->last_sample_ns = head[0];
    usage->head.continues = true;
    return 0;
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
    exit_listener_free(usage->exits);
    free(usage->former);
    memory_reader_free(usage->memory);
    host_cpus_free(usage->cpus);
    if (usage->epoll_fd >= 0)
        close(usage->epoll_fd);
    if (usage->root.proc_fd >= 0)
        close(usage->root.proc_fd);
    free(usage);
}

static const struct usage_provider_ops procfs_usage_ops = {
    .name = "procfs",
    .sample = procfs_sample,
    .event_fd = procfs_event_fd,
    .dispatch = procfs_dispatch,
    .save = procfs_save,
    .free = procfs_free,
};

/* Continues from a former daemon's state, if there is one. */
static int continue_former(struct procfs_usage *usage, const struct usage_former *former)
{
    struct bytes state;
    int r = -EBADMSG;

    if (former->state && usage_state_open(former->state, former->state_size, procfs_usage_ops.name,
                                          former->time_ns, &state) == 0)
        r = restore(usage, &state);
    return r == -EBADMSG ? 0 : r;
}

static void listen_for_exits(struct procfs_usage *usage)
{
    struct epoll_event event = {.events = EPOLLIN};
    int r = exit_listener_new(&usage->exits, usage->root.topology->n_cpus);

    if (r == 0)
        r = epoll_ctl(usage->epoll_fd, EPOLL_CTL_ADD, exit_listener_fd(usage->exits), &event);
    if (r < 0)
        log_warning("the kernel does not report ended processes: the CPU time of a VM's last "
                    "moments may count to the host",
                    F_ERROR(r));
}

DEFINE_CLEANUP(struct usage_provider *, usage_provider_free);

int procfs_usage_new(struct usage_provider **ret, const char *proc_root, const char *sysfs_root,
                     const struct usage_former *former)
{
    _cleanup_(cleanup_usage_provider_free) struct usage_provider *provider = NULL;
    struct procfs_usage *usage = calloc(1, sizeof(*usage));
    int r;

    if (!usage)
        return -ENOMEM;
    provider = &usage->head;
    provider->ops = &procfs_usage_ops;
    usage->root.live = strcmp(proc_root, "/proc") == 0;
    usage->root.proc_fd = open(proc_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    usage->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (usage->root.proc_fd < 0 || usage->epoll_fd < 0) {
        r = -errno;
        log_error("cannot read usage", F_STRING("directory", proc_root), F_ERROR(r));
        return r;
    }
    r = host_cpus_new(&usage->cpus, proc_root, sysfs_root);
    if (r < 0)
        return r;
    usage->root.topology = host_cpus_topology(usage->cpus);
    usage->root.n_sockets = host_cpus_n_sockets(usage->cpus);
    r = memory_reader_new(&usage->memory, proc_root, sysfs_root, usage->root.topology);
    if (r < 0)
        return r;
    r = continue_former(usage, former);
    if (r < 0)
        return r;
    if (usage->root.live)
        listen_for_exits(usage);
    *ret = TAKE_PTR(provider);
    return 0;
}
