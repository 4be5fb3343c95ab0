/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Who used the CPUs: every CPU keeps the account itself, as it switches tasks.
 *
 * A slice is the time from one switch to the next. At its end, what the kernel
 * itself has charged the task with meanwhile (se.sum_exec_runtime, ioac) is
 * added to the task's process, if a VM's, else to the CPU's "others". No clock
 * of our own is involved, so interrupts, stolen time and clocks that jump are
 * counted as the kernel counts them; a clock only serves to find how much of a
 * slice the SMT sibling was busy.
 *
 * How far a VM's thread has been counted is kept with the thread, not with the
 * CPU: a switch that is missed then delays what would have been counted, and
 * loses nothing. (This happens: on a VM that was resumed from a snapshot, Linux
 * 6.18 called no tracepoint for switches away from certain old tasks.)
 *
 * close_running_slice() closes and reopens slices that still run. User space
 * runs it on the busy CPUs before it reads: in an interrupt, so that no switch
 * of that CPU can come between.
 *
 * User space fills the map of processes with those it finds. Before it can find
 * a process, the programs here list it, so that no first slice is lost: at exec,
 * programs with the name of QEMU or of a helper, of trusted owners; at fork, the
 * children of listed processes; kernel threads that take the name of a vhost worker;
 * and processes that a trusted owner's process moves into a machine's control group. User space learns of each
 * through a ring, finds out whether and to which VM the process belongs, and
 * removes it from the map if to none, or after its end.
 */

#include "lib/process.bpf.h"
#include "lib/slice.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_slices, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    slice_switch(prev, next);
    return 0;
}

/* User space runs it on a CPU of its choice. */
SEC("raw_tp/sched_switch")
int close_running_slice(void *context)
{
    return slice_renew();
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(list_child, struct task_struct *parent, struct task_struct *child)
{
    process_fork(parent, child);
    return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(list_program, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
    process_exec(task, program);
    return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(list_vhost, struct task_struct *task, const char *comm)
{
    process_rename(task, comm);
    return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(list_member, struct cgroup *cgroup, const char *path, struct task_struct *task,
             bool threadgroup)
{
    process_move(task, cgroup);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(note_end, struct task_struct *task)
{
    process_exit(task);
    return 0;
}
