/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The parts of the kernel's structures that our programs read. Where they lie
 * in the running kernel is found out when a program is loaded (CO-RE), so that
 * one object serves all kernels and needs none of them to be built.
 */

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define TASK_DEAD 0x00000080

/* One perf event for each CPU. User space sets how many CPUs there are. */
#define COUNTER_MAP(name)                                                                          \
    struct {                                                                                       \
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);                                               \
        __uint(max_entries, 1);                                                                    \
        __type(key, __u32);                                                                        \
        __type(value, __u32);                                                                      \
    } name SEC(".maps")

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
    int counter;
} atomic_t;

struct sched_entity {
    __u64 sum_exec_runtime;
};

struct task_io_accounting {
    __u64 read_bytes;
    __u64 write_bytes;
};

struct signal_struct {
    atomic_t live;
};

struct task_struct {
    unsigned int __state;
    unsigned int flags;
    int pid;
    int tgid;
    struct task_struct *group_leader;
    __u64 start_boottime;
    struct sched_entity se;
    struct task_io_accounting ioac;
    struct signal_struct *signal;
    char comm[16];
};

struct qstr {
    const unsigned char *name;
};

struct dentry {
    struct qstr d_name;
};

struct path {
    struct dentry *dentry;
};

struct file {
    struct path f_path;
};

struct linux_binprm {
    struct file *file;
};

struct kernfs_node {
    __u64 id;
    const char *name;
};

struct cgroup_subsys_state {
    struct cgroup_subsys_state *parent;
};

struct cgroup {
    struct cgroup_subsys_state self; /* the first member: its address is the cgroup's */
    struct kernfs_node *kn;
};

#pragma clang attribute pop
