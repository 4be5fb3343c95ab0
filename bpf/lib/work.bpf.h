/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * How much is done, and what for: weighs it, and adds it to the totals of the CPU and of
 * a request. This fragment owns the settings, the map of CPUs, the weights by frequency and
 * the maps of hardware counters.
 */

#include "lib/counter.bpf.h"
#include "lib/kernel.h"
#include "lib/request.bpf.h"
#include "shared/request_energy.h"

/* Set before loading. */
const volatile __u32 counters_in_use = 0; /* bit per enum request_counter */

struct request_settings settings = {0};

/* The frequencies that have a weight, and those that were seen. */
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

COUNTER_MAP(cycles);
COUNTER_MAP(instructions);
COUNTER_MAP(cache_misses);

static struct request_cpu *work_this_cpu(void)
{
    __u32 cpu = bpf_get_smp_processor_id();

    return bpf_map_lookup_elem(&cpus, &cpu);
}

/* Work times factor, in two parts: BPF has no product of 128 bits. */
static __u64 work_energy(__u64 work)
{
    __u64 factor = settings.factor, high = work >> 16, low = work & 0xffff;

    return (high * factor >> 4) + (low * factor >> REQUEST_ENERGY_BITS);
}

/* @param raw  work in units of the weights */
static struct request_effort work_effort(__u64 raw, __u64 runtime_ns)
{
    __u64 work = raw >> (REQUEST_WEIGHT_BITS - REQUEST_WORK_BITS);

    return (struct request_effort){work, work_energy(work), runtime_ns};
}

static void work_credit(struct request_cpu *cpu, struct request *request,
                        const struct request_effort *effort)
{
    __sync_fetch_and_add(&cpu->bound_work, effort->work);
    __sync_fetch_and_add(&cpu->bound_energy, effort->energy);
    __sync_fetch_and_add(&request->work, effort->work);
    __sync_fetch_and_add(&request->energy, effort->energy);
    __sync_fetch_and_add(&request->runtime_ns, effort->runtime_ns);
}

/* @param id  of the request that the work was for; 0: the background */
static void work_add(struct request_cpu *cpu, __u64 id, const struct request_effort *effort)
{
    struct request *request = request_find(id);

    __sync_fetch_and_add(&cpu->work, effort->work);
    __sync_fetch_and_add(&cpu->runtime_ns, effort->runtime_ns);
    if (request)
        work_credit(cpu, request, effort);
    else
        __sync_fetch_and_add(&cpu->background_energy, effort->energy);
}

/* @return the weight of what a hardware counter counted since the last call */
static __u64 work_count(struct request_cpu *cpu, void *map, unsigned i)
{
    __u64 now, growth;

    if (!(counters_in_use & 1u << i))
        return 0;
    now = counter_read(map);
    growth = counter_growth(now, cpu->counters[i]);
    cpu->counters[i] = now;
    cpu->counted[i] += growth;
    return growth * settings.counter_weights[i];
}

/* @return the weight of a nanosecond at the CPU's frequency, whose time is counted as well */
static __u64 work_weight(const struct request_cpu *cpu, __u64 runtime_ns)
{
    struct request_frequency *frequency;
    __u32 khz = cpu->khz;

    frequency = khz ? bpf_map_lookup_elem(&frequencies, &khz) : NULL;
    if (!frequency)
        return settings.runtime_weight;
    __sync_fetch_and_add(&frequency->runtime_ns, runtime_ns);
    return frequency->weight ?: settings.runtime_weight;
}
