/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The parts of the kernel's structures that both objects read. libbpf looks up their
 * offsets in the running kernel when it loads a program (CO-RE), so one object serves
 * all kernels, and the build needs no kernel's headers.
 */

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define TASK_DEAD 0x00000080

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

typedef struct {
    unsigned int val;
} kuid_t;

struct cred {
    kuid_t uid;
    kuid_t suid;
    kuid_t euid;
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
    const struct cred *real_cred;
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
    struct cgroup_subsys_state self; /* the first member: it has the cgroup's address */
    struct kernfs_node *kn;
};

#pragma clang attribute pop
