/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The processes that belong to a VM, or may, and how far their threads have been
 * counted. This fragment owns the maps of processes and threads, and the ring by which
 * user space learns of processes to look at.
 */

#include "lib/counter.bpf.h"
#include "lib/kernel.h"
#include "lib/name.bpf.h"
#include "lib/owner.bpf.h"
#include "shared/vm_usage.h"

/* Read by user space. */
__u64 events_lost = 0; /* events for which the ring had no room */
__u64 n_refused = 0;   /* programs of a VM's name whose owner is not trusted */
__u32 refused[VM_USAGE_REFUSED_MAX] = {0}; /* PIDs of the last ones, in turn */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __uint(key_size, sizeof(struct vm_usage_key));
    __uint(value_size, sizeof(struct vm_usage_process)); /* less: as many sockets as there are */
} processes SEC(".maps");

/* How far a thread of a listed process has been counted. */
struct process_thread {
    __u64 start_ns; /* the kernel uses thread ids again */
    __u64 runtime_ns;
    __u64 io_bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __s32);
    __type(value, struct process_thread);
} threads SEC(".maps");

/* PIDs of the processes that user space is to look at. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} events SEC(".maps");

static const struct vm_usage_process process_unused;

static struct vm_usage_key process_key(struct task_struct *task)
{
    return (struct vm_usage_key){
        .pid = task->tgid,
        .start_ticks = task->group_leader->start_boottime / VM_USAGE_START_TICK_NS,
    };
}

static struct vm_usage_process *process_find(struct task_struct *task)
{
    struct vm_usage_key key = process_key(task);

    return bpf_map_lookup_elem(&processes, &key);
}

static __u64 process_io_bytes(struct task_struct *task)
{
    /* Kernels may be built without I/O accounting. */
    if (!bpf_core_field_exists(task->ioac.read_bytes))
        return 0;
    return task->ioac.read_bytes + task->ioac.write_bytes;
}

/* Begins to count a thread: everything that it uses beyond the given totals. */
static void process_add_thread(struct task_struct *task, __u64 runtime_ns, __u64 io_bytes)
{
    struct process_thread thread = {task->start_boottime, runtime_ns, io_bytes};
    __s32 tid = task->pid;

    bpf_map_update_elem(&threads, &tid, &thread, BPF_ANY);
}

/* Takes what a thread of a listed process used since it was counted last, on whatever CPU. */
static void process_take_growth(struct task_struct *task, __u64 *runtime_ns, __u64 *io_bytes)
{
    __u64 runtime = task->se.sum_exec_runtime, io = process_io_bytes(task);
    __s32 tid = task->pid;
    struct process_thread *thread = bpf_map_lookup_elem(&threads, &tid);

    if (thread && thread->start_ns == task->start_boottime) {
        *runtime_ns = counter_growth(runtime, thread->runtime_ns);
        *io_bytes = counter_growth(io, thread->io_bytes);
        if (task->__state & TASK_DEAD) {
            bpf_map_delete_elem(&threads, &tid);
            return;
        }
        thread->runtime_ns = runtime;
        thread->io_bytes = io;
    } else if (!(task->__state & TASK_DEAD)) {
        process_add_thread(task, runtime, io);
    }
}

/* Has user space look at a process. */
static void process_report(__u32 pid)
{
    if (bpf_ringbuf_output(&events, &pid, sizeof(pid), BPF_RB_NO_WAKEUP) < 0)
        __sync_fetch_and_add(&events_lost, 1);
}

/* Counts the process from now on. Where the map has no room, the process stays among the CPUs'
 * others, and user space will notice. */
static void process_list(struct task_struct *task)
{
    struct vm_usage_key key = process_key(task);

    if (bpf_map_update_elem(&processes, &key, &process_unused, BPF_NOEXIST) == 0)
        process_add_thread(task, task->se.sum_exec_runtime, process_io_bytes(task));
    process_report(key.pid);
}

static void process_fork(struct task_struct *parent, struct task_struct *child)
{
    struct vm_usage_process *process;

    if (!process_find(parent))
        return;
    if (child->pid != child->tgid) {
        process_add_thread(child, 0, 0);
        return;
    }
    process_list(child);
    process = process_find(child);
    if (process)
        process->parent = process_key(parent);
}

/* User space tells of it. However many there are, they cost this store; of two at one moment one
 * may be lost. */
static void process_refuse(__u32 pid)
{
    refused[n_refused % VM_USAGE_REFUSED_MAX] = pid;
    n_refused++;
}

static void process_exec(struct task_struct *task, struct linux_binprm *program)
{
    bool is_vms = name_is_vm_program(program->file->f_path.dentry->d_name.name);

    if (is_vms && owner_is_trusted(task))
        process_list(task);
    else if (process_find(task))
        process_report(task->tgid); /* it runs another program now */
    else if (is_vms)
        process_refuse(task->tgid);
}

static void process_rename(struct task_struct *task, const char *comm)
{
    char name[NAME_SIZE] = {0};

    bpf_probe_read_kernel_str(name, NAME_COMM_SIZE, comm);
    if ((task->flags & PF_KTHREAD) && NAME_HAS_PREFIX(VHOST_PREFIX))
        process_list(task);
    else if (NAME_HAS_PREFIX(VCPU_PREFIX) && process_find(task))
        process_report(task->tgid); /* a vCPU was plugged */
}

/* A machine's group, libvirt's group in it, and libvirt's groups of threads in that. */
#define PROCESS_MACHINE_DEPTH 3

/* Who moves it counts, not whose it is: libvirt moves helpers of other users (swtpm's), and a user
 * may name the control groups below the user's own like a machine's. */
static void process_move(struct task_struct *task, const struct cgroup *group)
{
    if (task->pid != task->tgid || !owner_is_trusted(bpf_get_current_task_btf()))
        return;
    for (int depth = 0; depth < PROCESS_MACHINE_DEPTH && group; depth++) {
        if (name_is_machine(group)) {
            process_list(task);
            return;
        }
        group = (const struct cgroup *)BPF_CORE_READ(group, self.parent);
    }
}

static void process_exit(struct task_struct *task)
{
    struct vm_usage_process *process = process_find(task);
    char name[NAME_COMM_SIZE] = {0};

    if (!process)
        return;
    bpf_probe_read_kernel_str(name, sizeof(name), task->comm);
    if (task->signal->live.counter == 0)
        process->ended = 1; /* its threads are still charged until their last switch */
    else if (!NAME_HAS_PREFIX(VCPU_PREFIX))
        return; /* the end of another thread changes nothing */
    process_report(task->tgid);
}
