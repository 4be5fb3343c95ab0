/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * For which request a task works. A part of request_energy.bpf.c.
 *
 * For whom a task works is certain from the moment it reads or writes a
 * connection until the request is answered. Before and after that it is guessed:
 *
 *     woken by a task of its process   for the waker's request, as a worker thread would
 *     has written a response's end     for that request still
 *     has called poll() or select()    for the same, with what it asked others for
 *
 * What is done under a guess is pending: it goes to the request that the task
 * writes to next (then it worked for that one, which it took from a queue, say),
 * else, as soon as the task reads, sleeps, wakes another or is back in its event
 * loop, to the one that was guessed.
 */

#include "request_work.h"

static void release(__u64 id)
{
    struct request *request = find_request(id);

    if (request)
        put(request);
}

static bool is_open(__u64 id)
{
    struct request *request = find_request(id);

    return request && request->end == REQUEST_OPEN;
}

/* @return whether the request is there; it is kept until it is released */
static bool hold(__u64 id)
{
    struct request *request = find_request(id);

    if (!request)
        return false;
    __sync_fetch_and_add(&request->bound, 1);
    if (request->id == id)
        return true;
    put(request); /* it went, and another took its place */
    return false;
}

/*
 * Says which request a thread keeps; 0: none. Others may say so at the same time
 * (it falls asleep, and is woken): whoever takes a request's place releases it, so
 * that each is released once.
 */
static void keep(struct request_worker *worker, __u64 id)
{
    release(__sync_lock_test_and_set(&worker->kept, id));
}

/* For whom the running task works is looked up once. */
static void load_worker(struct request_cpu *cpu, struct request_worker *worker)
{
    __u64 id = worker ? worker->request : 0;

    if (id && !worker->kept) {
        if (is_open(id) && hold(id))
            keep(worker, id);
        else
            worker->request = id = 0;
    }
    cpu->request = id;
    cpu->is_guess = worker && worker->is_guess;
    cpu->is_worker = worker != NULL;
}

/*
 * Says for which request a thread that is awake works; 0: none.
 * @param worker  the thread's, or NULL
 */
static void bind(__s32 tid, struct request_worker *worker, __u64 id, bool is_guess)
{
    struct request_worker fresh = {.request = id, .kept = id, .is_guess = is_guess};

    if ((!worker && !id) || (id && !hold(id)))
        return;
    if (worker) {
        worker->request = id;
        worker->is_guess = is_guess;
        keep(worker, id);
    } else if (bpf_map_update_elem(&workers, &tid, &fresh, BPF_NOEXIST) < 0)
        release(id);
}

/* Settles what is pending with one request, and lets the running task work for another. */
static void turn(struct request_cpu *cpu, __u64 of_pending, __u64 id)
{
    __s32 tid = running();
    struct request_worker *worker;

    charge_running(cpu);
    worker = find_worker(tid);
    if (worker)
        settle_pending(cpu, worker, of_pending);
    bind(tid, worker, id, false);
    load_worker(cpu, worker ?: find_worker(tid));
}

/* Whether a task does several requests at a time is known when it turns to another. */
static void notice_interleaving(const struct request_cpu *cpu)
{
    if (!interleaves && !cpu->is_guess && is_open(cpu->request))
        interleaves = 1;
}

/* It read a request: whatever it did before was not for that. */
static void turn_to_read(__u64 id)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu || (cpu->request == id && !cpu->is_guess))
        return;
    notice_interleaving(cpu);
    turn(cpu, cpu->request, id);
}

static void turn_to_nothing(void)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && cpu->is_worker)
        turn(cpu, cpu->is_guess ? cpu->request : 0, 0);
}

static void turn_to_written(__u64 id)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu || (cpu->request == id && !cpu->is_guess))
        return;
    notice_interleaving(cpu);
    turn(cpu, id, id);
}

/* A guess is as good as it gets when the task sleeps or wakes another. */
static void settle_guess(struct request_cpu *cpu, struct request_worker *worker)
{
    if (worker && cpu->is_guess)
        settle_pending(cpu, worker, cpu->request);
}

/* From now on it is a guess that the running task works for its request. */
static void doubt_running(struct request_cpu *cpu)
{
    struct request_worker *worker;

    charge_running(cpu);
    worker = find_worker(running());
    settle_guess(cpu, worker);
    if (worker)
        worker->is_guess = 1;
    cpu->is_guess = 1;
}

/* The running task wrote the end of the response: it may go on to something else. */
static void doubt_answered(__u64 id)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && cpu->request == id)
        doubt_running(cpu);
}

/* It waits for some sockets: for an answer to what it asked for the request, or for clients. */
static void doubt_waiting(void)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu || !cpu->request)
        return;
    if (is_open(cpu->request))
        doubt_running(cpu);
    else
        turn_to_nothing();
}

static __u64 request_of(__s32 tid)
{
    struct request_worker *worker = find_worker(tid);

    return worker && !worker->is_guess ? worker->request : 0;
}

/*
 * Whoever sleeps has nothing to do for the request now, nor ever if it ends
 * meanwhile: a thread that waits for the next request on its connection tells us
 * no other way. It is looked up: where it was about to sleep when it was woken
 * first, the CPU does not know yet for whom it works.
 */
static void fall_asleep(struct request_cpu *cpu, const struct task_struct *task)
{
    __s32 tid = task->pid;
    struct request_worker *worker = find_worker(tid);

    if (!worker)
        return;
    settle_guess(cpu, worker);
    keep(worker, 0);
    if (task->__state & TASK_DEAD) /* nobody can wake it, and bind it, from now on */
        bpf_map_delete_elem(&workers, &tid);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tasks, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    charge_running(cpu);
    if (!preempt && prev->__state)
        fall_asleep(cpu, prev);
    load_worker(cpu, next->pid ? find_worker(next->pid) : NULL);
    if (next->pid == 0)
        cpu->since_ns = 0;
    return 0;
}

/* Run by user space on each CPU before it reads the totals. */
SEC("raw_tp/sched_switch")
int close_running_slice(void *context)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && bpf_get_current_task_btf()->pid != 0)
        charge_running(cpu);
    return 0;
}

/* What the weights say that a wakeup and a migration cost, for those that do not run now. */
static void count_event(struct request_cpu *cpu, const struct task_struct *task, __u64 weight)
{
    struct request_effort effort = effort_of(weight, 0);

    add_work(cpu, request_of(task->pid), &effort);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(count_wakeup, struct task_struct *task)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    cpu->wakeups++;
    count_event(cpu, task, settings.wakeup_weight);
    return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(count_migration, struct task_struct *task, int to)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    cpu->migrations++;
    count_event(cpu, task, settings.migration_weight);
    return 0;
}

/*
 * Handing over by futex, pipe or eventfd. Whoever has a request that is
 * unfinished keeps it: it waited for a lock.
 */
SEC("tp_btf/sched_waking")
int BPF_PROG(hand_over, struct task_struct *task)
{
    struct request_cpu *cpu = this_cpu();
    struct request_worker *worker;

    if (!cpu || !cpu->request || task->tgid != (__s32)(bpf_get_current_pid_tgid() >> 32) ||
        task->pid == running() || !is_open(cpu->request))
        return 0;
    if (cpu->is_guess) {
        charge_running(cpu);
        settle_guess(cpu, find_worker(running()));
    }
    worker = find_worker(task->pid);
    if (!worker || !is_open(worker->request))
        bind(task->pid, worker, cpu->request, true);
    return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hand_to_child, struct task_struct *parent, struct task_struct *child)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && cpu->request)
        bind(child->pid, find_worker(child->pid), cpu->request, true);
    return 0;
}

/*
 * Back in the event loop, or waiting for another connection. The tracepoints of
 * the single calls would take a perf event each, which Debian lets nobody have
 * but CAP_SYS_ADMIN, and cost as much: the kernel gets to them by this one. It
 * makes every call of every task slower, so it is attached only when a task is
 * seen to do several requests at a time. One that answers each before it reads the
 * next tells all that is needed by its reads, its writes and when it sleeps.
 */
SEC("raw_tp/sys_enter")
int enter_call(struct bpf_raw_tracepoint_args *arguments)
{
    switch (arguments->args[1]) {
    case NR_poll:
    case NR_select:
    case NR_pselect6:
    case NR_ppoll:
        doubt_waiting();
        break;
    case NR_accept:
    case NR_epoll_wait:
    case NR_epoll_pwait:
    case NR_accept4:
    case NR_io_uring_enter:
    case NR_epoll_pwait2:
        turn_to_nothing();
    }
    return 0;
}
