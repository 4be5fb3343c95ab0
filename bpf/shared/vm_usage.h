/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What vm_usage.bpf.c and src/usage/bpf.c share.
 */

#include <linux/types.h>

#define VM_USAGE_SOCKETS_MAX 16

/* The unit of start times in /proc/PID/stat: USER_HZ is 100 on every Linux that has RAPL. */
#define VM_USAGE_START_TICK_NS 10000000ull

#define VM_USAGE_OWNERS_MAX 32
#define VM_USAGE_REFUSED_MAX 16 /* a power of two */

/** A process (thread group), unique for ever. */
struct vm_usage_key {
    __u32 pid;
    __u32 zero; /* keys are compared byte by byte */
    __u64 start_ticks;
};

/** Hardware counters, in the order of the maps that hold their perf events. */
enum vm_usage_counter {
    VM_USAGE_CYCLES,
    VM_USAGE_INSTRUCTIONS,
    VM_USAGE_LLC_MISSES,
    VM_USAGE_COUNTERS,
};

/** What was used on one socket: totals. */
struct vm_usage_counts {
    __u64 cpu_ns;   /* the kernel's own account: sum_exec_runtime */
    __u64 corun_ns; /* while the SMT sibling was busy as well */
    __u64 counters[VM_USAGE_COUNTERS];
};

/** A process that belongs to a VM, or may. The map's values hold as many sockets as the host. */
struct vm_usage_process {
    struct vm_usage_key parent; /* the listed process that it was forked from; pid 0: none */
    __u64 io_bytes;             /* to and from block devices; total */
    __u64 ended;                /* its last thread is exiting */
    struct vm_usage_counts sockets[VM_USAGE_SOCKETS_MAX];
};

/* A CPU's busy time is total while it idles, and now - offset while it runs a task. */
#define VM_USAGE_BUSY (1ull << 63)

/** One CPU. */
struct vm_usage_cpu {
    /* Set by user space. */
    __u32 socket;
    __s32 sibling; /* the CPU that shares its core, or -1 */

    /* The CPU itself writes the rest. The slice that runs: values at its start. */
    __s32 pid; /* of the thread; 0: idle, or not known yet */
    __u32 zero;
    __u64 runtime_ns;
    __u64 io_bytes;
    __u64 sibling_busy_ns;
    __u64 counters[VM_USAGE_COUNTERS];

    __u64 busy; /* total or offset: see VM_USAGE_BUSY */

    /* Totals of all tasks that are in no process of the map. */
    struct vm_usage_counts others;
    __u64 others_io_bytes;
} __attribute__((aligned(64)));
