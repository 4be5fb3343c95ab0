/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Slices: the time from one switch of a CPU to the next. This fragment owns the map of
 * CPUs and the maps of their hardware counters.
 */

#include "lib/counter.bpf.h"
#include "lib/kernel.h"
#include "lib/process.bpf.h"
#include "shared/vm_usage.h"

/* Set before loading. */
const volatile __u32 n_sockets = 1;
const volatile __u32 counters_in_use = 0; /* bit per enum vm_usage_counter */

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1); /* n_cpus */
    __type(key, __u32);
    __type(value, struct vm_usage_cpu);
} cpus SEC(".maps");

COUNTER_MAP(cycles);
COUNTER_MAP(instructions);
COUNTER_MAP(llc_misses);

static struct vm_usage_cpu *slice_find_cpu(__u32 cpu)
{
    return bpf_map_lookup_elem(&cpus, &cpu);
}

static __u64 slice_busy_ns(const struct vm_usage_cpu *cpu, __u64 now)
{
    __u64 busy = *(const volatile __u64 *)&cpu->busy;

    return busy & VM_USAGE_BUSY ? now - (busy & ~VM_USAGE_BUSY) : busy;
}

static __u64 slice_sibling_busy_ns(const struct vm_usage_cpu *cpu, __u64 now)
{
    const struct vm_usage_cpu *sibling = slice_find_cpu(cpu->sibling);

    return sibling ? slice_busy_ns(sibling, now) : 0;
}

static void slice_read_counters(__u64 *ret)
{
    if (counters_in_use & 1u << VM_USAGE_CYCLES)
        ret[VM_USAGE_CYCLES] = counter_read(&cycles);
    if (counters_in_use & 1u << VM_USAGE_INSTRUCTIONS)
        ret[VM_USAGE_INSTRUCTIONS] = counter_read(&instructions);
    if (counters_in_use & 1u << VM_USAGE_LLC_MISSES)
        ret[VM_USAGE_LLC_MISSES] = counter_read(&llc_misses);
}

static void slice_add(__u64 *total, __u64 amount, bool shared)
{
    if (shared)
        __sync_fetch_and_add(total, amount);
    else
        *total += amount;
}

/* @param shared  other CPUs may add to the same total at the same time */
static void slice_add_counts(struct vm_usage_counts *total, const struct vm_usage_counts *slice,
                             bool shared)
{
    slice_add(&total->cpu_ns, slice->cpu_ns, shared);
    if (slice->corun_ns)
        slice_add(&total->corun_ns, slice->corun_ns, shared);
    for (unsigned i = 0; i < VM_USAGE_COUNTERS; i++)
        if (counters_in_use & 1u << i)
            slice_add(&total->counters[i], slice->counters[i], shared);
}

static void slice_open(struct vm_usage_cpu *cpu, struct task_struct *task, __u64 now)
{
    cpu->pid = task->pid;
    if (task->pid == 0)
        return;
    cpu->runtime_ns = task->se.sum_exec_runtime;
    cpu->io_bytes = process_io_bytes(task);
    if (cpu->sibling >= 0)
        cpu->sibling_busy_ns = slice_sibling_busy_ns(cpu, now);
    slice_read_counters(cpu->counters);
}

static void slice_close(struct vm_usage_cpu *cpu, struct task_struct *task, __u64 now)
{
    struct vm_usage_counts slice = {0};
    struct vm_usage_process *process = process_find(task);
    __u32 socket = cpu->socket;
    __u64 io_bytes = 0;

    /* Otherwise the switch to this task was missed. */
    if (cpu->pid == task->pid) {
        slice.cpu_ns = counter_growth(task->se.sum_exec_runtime, cpu->runtime_ns);
        io_bytes = counter_growth(process_io_bytes(task), cpu->io_bytes);
    }
    /* These count since the last switch that was seen: other tasks that ran in between, after
     * switches that were missed, ran only briefly. */
    if (cpu->pid != 0) {
        if (cpu->sibling >= 0)
            slice.corun_ns = counter_growth(slice_sibling_busy_ns(cpu, now), cpu->sibling_busy_ns);
        slice_read_counters(slice.counters);
        for (unsigned i = 0; i < VM_USAGE_COUNTERS; i++)
            if (counters_in_use & 1u << i)
                slice.counters[i] = counter_growth(slice.counters[i], cpu->counters[i]);
    }
    if (process)
        process_take_growth(task, &slice.cpu_ns, &io_bytes);
    if (slice.corun_ns > slice.cpu_ns)
        slice.corun_ns = slice.cpu_ns;
    if (process && socket < n_sockets) {
        slice_add_counts(&process->sockets[socket], &slice, true);
        if (io_bytes)
            slice_add(&process->io_bytes, io_bytes, true);
    } else {
        slice_add_counts(&cpu->others, &slice, false);
        cpu->others_io_bytes += io_bytes;
    }
}

static __u64 slice_clock(const struct vm_usage_cpu *cpu)
{
    /* Only corun_ns needs the clock. */
    return cpu->sibling >= 0 ? bpf_ktime_get_ns() : 0;
}

static void slice_note_busy(struct vm_usage_cpu *cpu, bool busy, __u64 now)
{
    __u64 total = slice_busy_ns(cpu, now);

    if (cpu->sibling >= 0 && busy != !!(cpu->busy & VM_USAGE_BUSY))
        *(volatile __u64 *)&cpu->busy = busy ? VM_USAGE_BUSY | (now - total) : total;
}

static void slice_switch(struct task_struct *prev, struct task_struct *next)
{
    struct vm_usage_cpu *cpu = slice_find_cpu(bpf_get_smp_processor_id());
    __u64 now;

    if (!cpu)
        return;
    now = slice_clock(cpu);
    if (prev->pid != 0)
        slice_close(cpu, prev, now);
    slice_note_busy(cpu, next->pid != 0, now);
    slice_open(cpu, next, now);
}

/* Closes the slice that runs on this CPU and opens the next. @return its process's PID; 0: idle */
static int slice_renew(void)
{
    struct vm_usage_cpu *cpu = slice_find_cpu(bpf_get_smp_processor_id());
    struct task_struct *task = bpf_get_current_task_btf();
    __u64 now;

    if (!cpu || task->pid == 0)
        return 0;
    now = slice_clock(cpu);
    slice_close(cpu, task, now);
    slice_note_busy(cpu, true, now);
    slice_open(cpu, task, now);
    return task->tgid;
}
