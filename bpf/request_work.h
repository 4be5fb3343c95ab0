/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Who works, and for which request. A part of request_energy.bpf.c.
 *
 *     sched_switch, turning to another request, writing a header
 *         --(time since the last of them)--> the request, or the background
 *
 * A task that serves an event loop may turn to a thousand requests in one slice,
 * so the clock decides, not the scheduler's account, which is as of the last
 * tick while a slice runs.
 *
 * For whom a task works is certain from the moment it reads or writes a
 * connection until the request is answered. Before and after that it is guessed:
 *
 *     woken by a task of its process   for the waker's request, as a worker thread would
 *     has written a response's end     for that request still
 *
 * What is done under a guess is pending: it goes to the request that the task
 * writes to next (then it worked for that one, which it took from a queue, say),
 * else, as soon as the task reads, sleeps, wakes another or is back in its event
 * loop, to the one that was guessed.
 */

#include "request_energy.h"
#include "request_kernel.h"

/* Set before loading. */
const volatile __u32 counters_in_use = 0; /* bit per enum request_counter */

struct request_settings settings = {0};

/* Read by user space. */
__u64 unheard = 0; /* requests that ended while the ring was full */
__u64 refused = 0; /* requests that found no room in the map */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, __u64);
    __type(value, struct request);
} requests SEC(".maps");

/* By thread. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __s32);
    __type(value, struct request_worker);
} workers SEC(".maps");

/* Those that have a weight, and those that were seen. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, REQUEST_FREQUENCIES_MAX);
    __type(key, __u32);
    __type(value, struct request_frequency);
} frequencies SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1); /* n_cpus */
    __type(key, __u32);
    __type(value, struct request_cpu);
} cpus SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} ended SEC(".maps");

#define COUNTER_MAP(name)                                                                          \
    struct {                                                                                       \
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);                                               \
        __uint(max_entries, 1); /* n_cpus */                                                       \
        __type(key, __u32);                                                                        \
        __type(value, __u32);                                                                      \
    } name SEC(".maps")

COUNTER_MAP(cycles);
COUNTER_MAP(instructions);
COUNTER_MAP(cache_misses);

static struct request_cpu *this_cpu(void)
{
    __u32 cpu = bpf_get_smp_processor_id();

    return bpf_map_lookup_elem(&cpus, &cpu);
}

static struct request *find_request(__u64 id)
{
    return id ? bpf_map_lookup_elem(&requests, &id) : NULL;
}

/* Work times factor, in parts: there is no product of 128 bits. */
static __u64 energy_of(__u64 work)
{
    __u64 factor = settings.factor, high = work >> 16, low = work & 0xffff;

    return (high * factor >> 4) + (low * factor >> REQUEST_ENERGY_BITS);
}

/* @param raw  work in units of the weights */
static struct request_effort effort_of(__u64 raw, __u64 runtime_ns)
{
    __u64 work = raw >> (REQUEST_WEIGHT_BITS - REQUEST_WORK_BITS);

    return (struct request_effort){work, energy_of(work), runtime_ns};
}

static void credit(struct request_cpu *cpu, struct request *request,
                   const struct request_effort *effort)
{
    __sync_fetch_and_add(&cpu->bound_work, effort->work);
    __sync_fetch_and_add(&cpu->bound_energy, effort->energy);
    __sync_fetch_and_add(&request->work, effort->work);
    __sync_fetch_and_add(&request->energy, effort->energy);
    __sync_fetch_and_add(&request->runtime_ns, effort->runtime_ns);
}

static void add_work(struct request_cpu *cpu, __u64 id, const struct request_effort *effort)
{
    struct request *request = find_request(id);

    __sync_fetch_and_add(&cpu->work, effort->work);
    __sync_fetch_and_add(&cpu->runtime_ns, effort->runtime_ns);
    if (request)
        credit(cpu, request, effort);
    else
        __sync_fetch_and_add(&cpu->background_energy, effort->energy);
}

/* What is pending was done for this request; without one it stays in the background. */
static void settle_pending(struct request_cpu *cpu, struct request_worker *worker, __u64 id)
{
    struct request *request = find_request(id);

    if (request && worker->pending.work) {
        credit(cpu, request, &worker->pending);
        __sync_fetch_and_add(&cpu->background_energy, -worker->pending.energy);
    }
    worker->pending = (struct request_effort){0};
}

static struct request_worker *find_worker(__s32 tid)
{
    return bpf_map_lookup_elem(&workers, &tid);
}

static __s32 running(void)
{
    return (__s32)bpf_get_current_pid_tgid();
}

static __u64 read_counter(void *map)
{
    struct bpf_perf_event_value value = {0};

    if (bpf_perf_event_read_value(map, BPF_F_CURRENT_CPU, &value, sizeof(value)) < 0)
        return 0;
    return value.counter;
}

static __u64 count(struct request_cpu *cpu, void *map, unsigned i)
{
    __u64 now, growth;

    if (!(counters_in_use & 1u << i))
        return 0;
    now = read_counter(map);
    growth = now > cpu->counters[i] ? now - cpu->counters[i] : 0;
    cpu->counters[i] = now;
    cpu->counted[i] += growth;
    return growth * settings.counter_weights[i];
}

static __u64 weight_of(const struct request_cpu *cpu, __u64 runtime_ns)
{
    struct request_frequency *frequency;
    __u32 khz = cpu->khz;

    frequency = khz ? bpf_map_lookup_elem(&frequencies, &khz) : NULL;
    if (!frequency)
        return settings.runtime_weight;
    __sync_fetch_and_add(&frequency->runtime_ns, runtime_ns);
    return frequency->weight ?: settings.runtime_weight;
}

/* Counts what the running task did since it was counted last. */
static void charge_running(struct request_cpu *cpu)
{
    __u64 now = bpf_ktime_get_ns(), since = cpu->since_ns, raw;
    struct request_worker *worker;
    struct request_effort effort;

    raw = count(cpu, &cycles, REQUEST_CYCLES) + count(cpu, &instructions, REQUEST_INSTRUCTIONS) +
          count(cpu, &cache_misses, REQUEST_CACHE_MISSES);
    cpu->since_ns = now;
    if (!since || now <= since)
        return;
    raw += (now - since) * weight_of(cpu, now - since);
    effort = effort_of(raw, now - since);
    add_work(cpu, cpu->is_guess ? 0 : cpu->request, &effort);
    if (!cpu->is_worker || (cpu->request && !cpu->is_guess))
        return;
    worker = find_worker(running());
    if (worker) {
        worker->pending.work += effort.work;
        worker->pending.energy += effort.energy;
        worker->pending.runtime_ns += effort.runtime_ns;
    }
}

/* Told by user space for the start, and by cpufreq. */
SEC("raw_tp/cpu_frequency")
int change_frequency(struct bpf_raw_tracepoint_args *arguments)
{
    const struct request_frequency unweighted = {0};
    __u32 khz = arguments->args[0], id = arguments->args[1];
    struct request_cpu *cpu = bpf_map_lookup_elem(&cpus, &id);

    if (!cpu || !khz)
        return 0;
    if (id == bpf_get_smp_processor_id() && cpu->since_ns)
        charge_running(cpu);
    bpf_map_update_elem(&frequencies, &khz, &unweighted, BPF_NOEXIST);
    cpu->khz = khz;
    return 0;
}

/* The end of requests. */

static void tell_if_over(struct request *request)
{
    __u64 id = request->id;
    struct request *copy;

    if (request->end == REQUEST_OPEN || request->bound > 0)
        return;
    copy = bpf_ringbuf_reserve(&ended, sizeof(*copy), 0);
    if (!copy) {
        if (bpf_map_delete_elem(&requests, &id) == 0)
            __sync_fetch_and_add(&unheard, 1);
        return;
    }
    __builtin_memcpy(copy, request, sizeof(*copy));
    /* Two may come here at the same time; one of them deletes it. The scheduler may call us with
     * its locks held, so nobody is woken. */
    if (bpf_map_delete_elem(&requests, &id) == 0)
        bpf_ringbuf_submit(copy, BPF_RB_NO_WAKEUP);
    else
        bpf_ringbuf_discard(copy, BPF_RB_NO_WAKEUP);
}

static void end_request(__u64 id, enum request_end end)
{
    struct request *request = find_request(id);

    if (!request || request->end != REQUEST_OPEN)
        return;
    request->ended_ns = bpf_ktime_get_ns();
    request->end = end;
    tell_if_over(request);
}

/* Binding. */

static void release(__u64 id)
{
    struct request *request = find_request(id);

    if (!request)
        return;
    __sync_fetch_and_add(&request->bound, -1);
    tell_if_over(request);
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
    __sync_fetch_and_add(&request->bound, -1); /* it went, and another took its place */
    return false;
}

/* For whom the running task works is looked up once. */
static void load_worker(struct request_cpu *cpu, __s32 tid)
{
    struct request_worker *worker = tid ? find_worker(tid) : NULL;

    if (worker && worker->is_asleep) {
        worker->is_asleep = 0;
        if (!is_open(worker->request) || !hold(worker->request))
            worker->request = 0;
    }
    cpu->request = worker ? worker->request : 0;
    cpu->is_guess = worker && worker->is_guess;
    cpu->is_worker = worker != NULL;
}

/* Says for which request a thread that is awake works; 0: none. */
static void bind(__s32 tid, __u64 id, bool is_guess)
{
    struct request_worker fresh = {.is_guess = is_guess};
    struct request_worker *worker = find_worker(tid);
    __u64 former = worker && !worker->is_asleep ? worker->request : 0;

    if (worker && id == former) {
        worker->is_guess = is_guess;
        return;
    }
    if ((!worker && !id) || (id && !hold(id)))
        return;
    fresh.request = id;
    if (worker) {
        worker->request = id;
        worker->is_guess = is_guess;
        worker->is_asleep = 0;
    } else if (bpf_map_update_elem(&workers, &tid, &fresh, BPF_ANY) < 0)
        release(id);
    release(former);
}

/* Settles what is pending with one request, and lets the running task work for another. */
static void turn(struct request_cpu *cpu, __u64 of_pending, __u64 id)
{
    struct request_worker *worker;

    charge_running(cpu);
    worker = cpu->is_worker ? find_worker(running()) : NULL;
    if (worker)
        settle_pending(cpu, worker, of_pending);
    bind(running(), id, false);
    load_worker(cpu, running());
}

/* It read a request: whatever it did before was not for that. */
static void turn_to_read(__u64 id)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && (cpu->request != id || cpu->is_guess))
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

    if (cpu && (cpu->request != id || cpu->is_guess))
        turn(cpu, id, id);
}

/* The running task wrote the end of the response: it may go on to something else. */
static void doubt_running(__u64 id)
{
    struct request_cpu *cpu = this_cpu();
    struct request_worker *worker;

    if (!cpu || cpu->request != id)
        return;
    charge_running(cpu);
    worker = find_worker(running());
    if (worker)
        worker->is_guess = 1;
    cpu->is_guess = 1;
}

static __u64 request_of(__s32 tid)
{
    struct request_worker *worker = find_worker(tid);

    return worker && !worker->is_guess ? worker->request : 0;
}

/* A guess is as good as it gets when the task sleeps or wakes another. */
static void settle_guess(struct request_cpu *cpu, struct request_worker *worker)
{
    if (worker && cpu->is_guess)
        settle_pending(cpu, worker, cpu->request);
}

/*
 * Whoever sleeps has nothing to do for the request now, nor ever if it ends
 * meanwhile: a thread that waits for the next request on its connection tells us
 * no other way.
 */
static void fall_asleep(struct request_cpu *cpu, __s32 tid)
{
    struct request_worker *worker = find_worker(tid);

    settle_guess(cpu, worker);
    if (!worker || worker->request != cpu->request)
        return; /* somebody wakes it already */
    worker->is_asleep = 1;
    release(cpu->request);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tasks, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    charge_running(cpu);
    if (cpu->request && !preempt && prev->__state)
        fall_asleep(cpu, prev->pid);
    load_worker(cpu, next->pid);
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
        bind(task->pid, cpu->request, true);
    return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hand_to_child, struct task_struct *parent, struct task_struct *child)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && cpu->request)
        bind(child->pid, cpu->request, true);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(release_task, struct task_struct *task)
{
    __s32 tid = task->pid;

    turn_to_nothing();
    bpf_map_delete_elem(&workers, &tid);
    return 0;
}

/*
 * Back in the event loop, or waiting for another connection. The tracepoints of
 * the single calls would take a perf event each, which Debian lets nobody have
 * but CAP_SYS_ADMIN, and cost as much: the kernel gets to them by this one.
 */
SEC("raw_tp/sys_enter")
int enter_call(struct bpf_raw_tracepoint_args *arguments)
{
    switch (arguments->args[1]) {
    case NR_poll:
    case NR_select:
    case NR_accept:
    case NR_epoll_wait:
    case NR_pselect6:
    case NR_ppoll:
    case NR_epoll_pwait:
    case NR_accept4:
    case NR_io_uring_enter:
    case NR_epoll_pwait2:
        turn_to_nothing();
    }
    return 0;
}
