/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Workers: threads that work, or ever worked, for a request. This fragment owns the map
 * of workers, and decides which request the running task's work is for.
 *
 *     sched_switch, switching to another request, writing a header
 *         --(time since the last of them)--> the request, or the background
 *
 * A task that serves an event loop may switch between a thousand requests in one slice,
 * so the clock decides, not the scheduler's account: while a slice runs, that account
 * is as of the last scheduler tick.
 *
 * From the moment a task reads or writes a connection until the request is answered, it
 * is certain which request the task works for. Before and after that it is uncertain, and
 * assumed:
 *
 *     woken by a task of its process   the waker's request, as a worker thread would
 *     has written a response's end     still that request
 *     has called poll() or select()    the same request, which it asked others for
 *
 * Work done while the request is uncertain is pending. It goes to the request that the
 * task writes to next (then the task worked for that one, which it took from a queue,
 * say). If the task first reads, sleeps, wakes another or is back in its event loop, the
 * pending work goes to the request that was assumed.
 */

#include "lib/arch.h"
#include "lib/kernel.h"
#include "lib/request.bpf.h"
#include "lib/work.bpf.h"
#include "shared/request_energy.h"

/* Read by user space. */
__u32 interleaves = 0; /* a task switched to another request from one that was not answered yet */

/* By thread. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __s32);
    __type(value, struct request_worker);
} workers SEC(".maps");

static struct request_worker *worker_find(__s32 tid)
{
    return bpf_map_lookup_elem(&workers, &tid);
}

static __s32 worker_running_tid(void)
{
    return (__s32)bpf_get_current_pid_tgid();
}

/* Assigns a worker's pending work to a request; without one it stays in the background. */
static void worker_assign_pending(struct request_cpu *cpu, struct request_worker *worker, __u64 id)
{
    struct request *request = worker->pending.work ? request_find(id) : NULL;

    if (request) {
        work_credit(cpu, request, &worker->pending);
        __sync_fetch_and_add(&cpu->background_energy, -worker->pending.energy);
    }
    worker->pending = (struct request_effort){0};
}

/* Counts what the running task did since it was counted last. */
static void worker_charge_running(struct request_cpu *cpu)
{
    __u64 now = bpf_ktime_get_ns(), since = cpu->since_ns, raw;
    struct request_worker *worker;
    struct request_effort effort;

    /* Where the kernel preempts itself, the scheduler may have counted meanwhile. */
    if (now <= since)
        return;
    cpu->since_ns = now;

    raw = work_count(cpu, &cycles, REQUEST_CYCLES) +
          work_count(cpu, &instructions, REQUEST_INSTRUCTIONS) +
          work_count(cpu, &cache_misses, REQUEST_CACHE_MISSES);
    if (!since)
        return;
    raw += (now - since) * work_weight(cpu, now - since);
    effort = work_effort(raw, now - since);
    work_add(cpu, cpu->is_uncertain ? 0 : cpu->request, &effort);
    if (!cpu->is_worker || (cpu->request && !cpu->is_uncertain))
        return;
    worker = worker_find(worker_running_tid());
    if (worker) {
        worker->pending.work += effort.work;
        worker->pending.energy += effort.energy;
        worker->pending.runtime_ns += effort.runtime_ns;
    }
}

static void worker_change_frequency(__u32 khz, __u32 id)
{
    const struct request_frequency unweighted = {0};
    struct request_cpu *cpu = bpf_map_lookup_elem(&cpus, &id);

    if (!cpu || !khz)
        return;
    if (id == bpf_get_smp_processor_id() && cpu->since_ns)
        worker_charge_running(cpu);
    bpf_map_update_elem(&frequencies, &khz, &unweighted, BPF_NOEXIST);
    cpu->khz = khz;
}

/*
 * Sets the request of which a worker holds a reference; 0: none. Two CPUs may set it at
 * the same time (the thread falls asleep, and is woken): each puts the request that it
 * replaces, so that every reference is dropped once.
 */
static void worker_set_held(struct request_worker *worker, __u64 id)
{
    request_put_id(__sync_lock_test_and_set(&worker->held, id));
}

/* Notes on the CPU which request the running task works for: it is looked up once a slice. */
static void worker_load(struct request_cpu *cpu, struct request_worker *worker)
{
    __u64 id = worker ? worker->request : 0;

    if (id && !worker->held) {
        if (request_is_open(id) && request_get(id))
            worker_set_held(worker, id);
        else
            worker->request = id = 0;
    }
    cpu->request = id;
    cpu->is_uncertain = worker && worker->is_uncertain;
    cpu->is_worker = worker != NULL;
}

/*
 * Sets which request a thread that is awake works for; 0: none.
 * @param worker  the thread's, or NULL
 */
static void worker_bind(__s32 tid, struct request_worker *worker, __u64 id, bool is_uncertain)
{
    struct request_worker fresh = {.request = id, .held = id, .is_uncertain = is_uncertain};

    if ((!worker && !id) || (id && !request_get(id)))
        return;
    if (worker) {
        worker->request = id;
        worker->is_uncertain = is_uncertain;
        worker_set_held(worker, id);
    } else if (bpf_map_update_elem(&workers, &tid, &fresh, BPF_NOEXIST) < 0)
        request_put_id(id);
}

/* Switches the running task to another request.
 * @param of_pending  the request that the pending work goes to */
static void worker_switch_request(struct request_cpu *cpu, __u64 of_pending, __u64 id)
{
    __s32 tid = worker_running_tid();
    struct request_worker *worker;

    worker_charge_running(cpu);
    worker = worker_find(tid);
    if (worker)
        worker_assign_pending(cpu, worker, of_pending);
    worker_bind(tid, worker, id, false);
    worker_load(cpu, worker ?: worker_find(tid));
}

/* A task that serves several requests at a time shows it when it switches to another. */
static void worker_note_interleaving(const struct request_cpu *cpu)
{
    if (!interleaves && !cpu->is_uncertain && request_is_open(cpu->request))
        interleaves = 1;
}

/* The running task read a request: whatever it did before was not for that one. */
static void worker_read(__u64 id)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu || (cpu->request == id && !cpu->is_uncertain))
        return;
    worker_note_interleaving(cpu);
    worker_switch_request(cpu, cpu->request, id);
}

static void worker_leave_request(void)
{
    struct request_cpu *cpu = work_this_cpu();

    if (cpu && cpu->is_worker)
        worker_switch_request(cpu, cpu->is_uncertain ? cpu->request : 0, 0);
}

/* The running task writes a response: what is pending was done for its request. */
static void worker_write(__u64 id)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu || (cpu->request == id && !cpu->is_uncertain))
        return;
    worker_note_interleaving(cpu);
    worker_switch_request(cpu, id, id);
}

/* Takes the assumed request for the right one: a task that sleeps or wakes another shows no
 * other. */
static void worker_confirm(struct request_cpu *cpu, struct request_worker *worker)
{
    if (worker && cpu->is_uncertain)
        worker_assign_pending(cpu, worker, cpu->request);
}

/* From now on it is uncertain that the running task works for its request. */
static void worker_mark_uncertain(struct request_cpu *cpu)
{
    struct request_worker *worker;

    worker_charge_running(cpu);
    worker = worker_find(worker_running_tid());
    worker_confirm(cpu, worker);
    if (worker)
        worker->is_uncertain = 1;
    cpu->is_uncertain = 1;
}

/* The running task wrote a response's end: it may go on to something else. */
static void worker_answered(__u64 id)
{
    struct request_cpu *cpu = work_this_cpu();

    if (cpu && cpu->request == id)
        worker_mark_uncertain(cpu);
}

/* The running task waits for sockets: for an answer that its request needs, or for clients. */
static void worker_wait(void)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu || !cpu->request)
        return;
    if (request_is_open(cpu->request))
        worker_mark_uncertain(cpu);
    else
        worker_leave_request();
}

/*
 * By the system call that the running task makes: it waits, is back in its event loop, or
 * waits for another connection.
 */
static void worker_enter_call(long number)
{
    switch (number) {
    case NR_poll:
    case NR_select:
    case NR_pselect6:
    case NR_ppoll:
        worker_wait();
        break;
    case NR_accept:
    case NR_epoll_wait:
    case NR_epoll_pwait:
    case NR_accept4:
    case NR_io_uring_enter:
    case NR_epoll_pwait2:
        worker_leave_request();
    }
}

/*
 * A thread that sleeps does nothing for its request now, nor ever again if the request
 * ends meanwhile: nothing else shows that a thread waits for the next request on its
 * connection. The worker is looked up, because the CPU does not know it yet where the
 * thread was about to sleep when it was woken first.
 */
static void worker_sleep(struct request_cpu *cpu, const struct task_struct *task)
{
    __s32 tid = task->pid;
    struct request_worker *worker = worker_find(tid);

    if (!worker)
        return;
    worker_confirm(cpu, worker);
    worker_set_held(worker, 0);
    if (task->__state & TASK_DEAD) /* nothing can wake it, and bind it, from now on */
        bpf_map_delete_elem(&workers, &tid);
}

static void worker_switch_tasks(bool preempt, struct task_struct *prev, struct task_struct *next)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu)
        return;
    worker_charge_running(cpu);
    if (!preempt && prev->__state)
        worker_sleep(cpu, prev);
    worker_load(cpu, next->pid ? worker_find(next->pid) : NULL);
    if (next->pid == 0)
        cpu->since_ns = 0;
}

static void worker_close_slice(void)
{
    struct request_cpu *cpu = work_this_cpu();

    if (cpu && bpf_get_current_task_btf()->pid != 0)
        worker_charge_running(cpu);
}

/* @return the request that a task works for for certain; 0: none */
static __u64 worker_request(__s32 tid)
{
    struct request_worker *worker = worker_find(tid);

    return worker && !worker->is_uncertain ? worker->request : 0;
}

/* Charges a task that does not run now with a wakeup or a migration, as the weights have it. */
static void worker_count_event(struct request_cpu *cpu, const struct task_struct *task,
                               __u64 weight)
{
    struct request_effort effort = work_effort(weight, 0);

    work_add(cpu, worker_request(task->pid), &effort);
}

static void worker_count_wakeup(const struct task_struct *task)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu)
        return;
    cpu->wakeups++;
    worker_count_event(cpu, task, settings.wakeup_weight);
}

static void worker_count_migration(const struct task_struct *task)
{
    struct request_cpu *cpu = work_this_cpu();

    if (!cpu)
        return;
    cpu->migrations++;
    worker_count_event(cpu, task, settings.migration_weight);
}

/*
 * The running task wakes another by futex, pipe or eventfd, and may hand its request over. A
 * task that has an unfinished request keeps its own: it waited for a lock.
 */
static void worker_wake(const struct task_struct *task)
{
    struct request_cpu *cpu = work_this_cpu();
    struct request_worker *worker;

    if (!cpu || !cpu->request || task->tgid != (__s32)(bpf_get_current_pid_tgid() >> 32) ||
        task->pid == worker_running_tid() || !request_is_open(cpu->request))
        return;
    if (cpu->is_uncertain) {
        worker_charge_running(cpu);
        worker_confirm(cpu, worker_find(worker_running_tid()));
    }
    worker = worker_find(task->pid);
    if (!worker || !request_is_open(worker->request))
        worker_bind(task->pid, worker, cpu->request, true);
}

static void worker_fork(const struct task_struct *child)
{
    struct request_cpu *cpu = work_this_cpu();

    if (cpu && cpu->request)
        worker_bind(child->pid, worker_find(child->pid), cpu->request, true);
}
