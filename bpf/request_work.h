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

/* Threads that ever worked for a request, and for which they do now. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __s32);
    __type(value, __u64);
} tasks SEC(".maps");

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
static void credit(struct request_cpu *cpu, __u64 id, __u64 raw, __u64 runtime_ns)
{
    __u64 work = raw >> (REQUEST_WEIGHT_BITS - REQUEST_WORK_BITS), energy = energy_of(work);
    struct request *request = find_request(id);

    __sync_fetch_and_add(&cpu->work, work);
    __sync_fetch_and_add(&cpu->runtime_ns, runtime_ns);
    if (!request) {
        __sync_fetch_and_add(&cpu->background_energy, energy);
        return;
    }
    __sync_fetch_and_add(&cpu->bound_work, work);
    __sync_fetch_and_add(&cpu->bound_energy, energy);
    __sync_fetch_and_add(&request->work, work);
    __sync_fetch_and_add(&request->energy, energy);
    __sync_fetch_and_add(&request->runtime_ns, runtime_ns);
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

/* Counts what the running task did since it was counted last. */
static void charge_running(struct request_cpu *cpu)
{
    __u64 now = bpf_ktime_get_ns(), since = cpu->since_ns, raw;

    raw = count(cpu, &cycles, REQUEST_CYCLES) + count(cpu, &instructions, REQUEST_INSTRUCTIONS) +
          count(cpu, &cache_misses, REQUEST_CACHE_MISSES);
    cpu->since_ns = now;
    if (!since || now <= since)
        return;
    raw += (now - since) * (cpu->weight ?: settings.runtime_weight);
    credit(cpu, cpu->request, raw, now - since);
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

/* Lets a task that does not run work for a request from its next slice on; 0: none. */
static void bind(__s32 tid, __u64 id)
{
    __u64 *bound = bpf_map_lookup_elem(&tasks, &tid), former = bound ? *bound : 0;
    struct request *request = find_request(id);

    if (former == id || (!former && !request))
        return;
    if (bound)
        *bound = request ? id : 0;
    else if (bpf_map_update_elem(&tasks, &tid, &id, BPF_ANY) < 0)
        return;
    if (request)
        __sync_fetch_and_add(&request->bound, 1);
    if (former)
        release(former);
}

static void bind_running(__u64 id)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu || cpu->request == id)
        return;
    charge_running(cpu);
    bind((__s32)bpf_get_current_pid_tgid(), id);
    cpu->request = id;
}

static __u64 request_of(__s32 tid)
{
    __u64 *bound = bpf_map_lookup_elem(&tasks, &tid);

    return bound ? *bound : 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tasks, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    struct request_cpu *cpu = this_cpu();
    struct request *request;

    if (!cpu)
        return 0;
    charge_running(cpu);
    /* Whoever sleeps after the answer has no more to do for it: a thread that waits for the
     * next request on its connection tells us no other way. */
    if (cpu->request && !preempt && prev->__state) {
        request = find_request(cpu->request);
        if (!request || request->end != REQUEST_OPEN)
            bind(prev->pid, 0);
    }
    cpu->request = next->pid ? request_of(next->pid) : 0;
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
SEC("tp_btf/sched_wakeup")
int BPF_PROG(count_wakeup, struct task_struct *task)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    cpu->wakeups++;
    credit(cpu, request_of(task->pid), settings.wakeup_weight, 0);
    return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(count_migration, struct task_struct *task, int to)
{
    struct request_cpu *cpu = this_cpu();

    if (!cpu)
        return 0;
    cpu->migrations++;
    credit(cpu, request_of(task->pid), settings.migration_weight, 0);
    return 0;
}

/*
 * Handing over: whoever is woken by a task of its own process (futex, pipe,
 * eventfd) works on for the waker's request, if it has none that is unfinished:
 * then it waited for a lock. The woken one turns to another as soon as it reads
 * a connection itself.
 */
SEC("tp_btf/sched_waking")
int BPF_PROG(hand_over, struct task_struct *task)
{
    struct request_cpu *cpu = this_cpu();
    struct request *own;

    if (!cpu || !cpu->request || task->tgid != (__s32)(bpf_get_current_pid_tgid() >> 32) ||
        task->pid == (__s32)bpf_get_current_pid_tgid())
        return 0;
    own = find_request(request_of(task->pid));
    if (!own || own->end != REQUEST_OPEN)
        bind(task->pid, cpu->request);
    return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hand_to_child, struct task_struct *parent, struct task_struct *child)
{
    struct request_cpu *cpu = this_cpu();

    if (cpu && cpu->request)
        bind(child->pid, cpu->request);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(release_task, struct task_struct *task)
{
    __s32 tid = task->pid;

    bind_running(0);
    bpf_map_delete_elem(&tasks, &tid);
    return 0;
}

/* Back in the event loop, or waiting for another connection. */
#define EVENT_LOOP(call)                                                                           \
    SEC("tp/syscalls/sys_enter_" #call)                                                            \
    int enter_##call(void *context)                                                                \
    {                                                                                              \
        bind_running(0);                                                                           \
        return 0;                                                                                  \
    }

EVENT_LOOP(epoll_wait)
EVENT_LOOP(epoll_pwait)
EVENT_LOOP(epoll_pwait2)
EVENT_LOOP(poll)
EVENT_LOOP(ppoll)
EVENT_LOOP(select)
EVENT_LOOP(pselect6)
EVENT_LOOP(accept)
EVENT_LOOP(accept4)
EVENT_LOOP(io_uring_enter)
