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

#include "shared/http_words.h"
#include "shared/request_energy.h"
#include "request_kernel.h"

/* Set before loading. */
const volatile __u32 counters_in_use = 0; /* bit per enum request_counter */

struct request_settings settings = {0};

/* Read by user space. */
__u64 unheard = 0;     /* requests that ended while the ring was full */
__u64 refused = 0;     /* requests that found no room in the map */
__u32 interleaves = 0; /* a task turned from a request that was not answered yet to another */
__u64 taken = 0;       /* connections that are in another program's map of sockets */

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
    struct request *request = worker->pending.work ? find_request(id) : NULL;

    if (request) {
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

    /* Where the kernel preempts itself, the scheduler may have counted meanwhile. */
    if (now <= since)
        return;
    cpu->since_ns = now;

    raw = count(cpu, &cycles, REQUEST_CYCLES) + count(cpu, &instructions, REQUEST_INSTRUCTIONS) +
          count(cpu, &cache_misses, REQUEST_CACHE_MISSES);
    if (!since)
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

/* Lets go of a request that was kept. */
static void put(struct request *request)
{
    __sync_fetch_and_add(&request->bound, -1);
    tell_if_over(request);
}

/* It is kept meanwhile: so whoever is last sees both that it is over, and that it is the last. */
static void end_request(struct request *request, enum request_end end)
{
    if (request->end != REQUEST_OPEN)
        return;
    __sync_fetch_and_add(&request->bound, 1);
    request->ended_ns = bpf_ktime_get_ns();
    request->end = end;
    put(request);
}
