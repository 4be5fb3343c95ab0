/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * Who used the CPUs: kept by every CPU as it switches tasks.
 *
 * A slice is the time from one switch to the next. At its end, what the kernel
 * itself has charged the task with meanwhile (se.sum_exec_runtime, ioac) is
 * added to the task's process, if that is a VM's, else to the CPU's "others".
 * No clock of our own is involved, so that interrupts, stolen time and clocks
 * that jump are counted as the kernel counts them; a clock only serves to tell
 * how much of a slice the SMT sibling was busy.
 *
 * How far a VM's thread has been counted is kept with the thread, not with the
 * CPU: a switch that goes unseen then delays what it would have told, and loses
 * nothing. (It happens: on a VM that was resumed from a snapshot, Linux 6.18
 * called no tracepoint for switches away from certain old tasks.)
 *
 * Slices that still run are closed and opened again by close_running_slice(),
 * which user space runs on the busy CPUs before it reads: in an interrupt, so
 * that no switch of that CPU can come between.
 *
 * The map of processes is filled by user space with what it finds, and here
 * before it could find anything, so that no first slice is lost: by programs
 * with the name of QEMU or of a helper at exec, by the children of processes
 * of the map at fork, by kernel threads that take the name of a vhost worker,
 * and by processes that are moved into the control group of a machine. User
 * space learns of each through a ring, looks whether and to which VM it belongs,
 * and removes it from the map if it does not, or after its end.
 */

#include "kernel.h"

#include "vm_usage.h"

#include "../src/discovery/vm_names.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading. */
const volatile __u32 n_sockets = 1;
const volatile __u32 counters_in_use = 0; /* bit per enum vm_usage_counter */

/* Read by user space. */
__u64 unheard = 0; /* news for which the ring had no room */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __uint(key_size, sizeof(struct vm_usage_key));
    __uint(value_size, sizeof(struct vm_usage_process)); /* less: as many sockets as there are */
} processes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1); /* n_cpus */
    __type(key, __u32);
    __type(value, struct vm_usage_cpu);
} cpus SEC(".maps");

/* How far a thread of a listed process has been counted. */
struct thread {
    __u64 start_ns; /* thread ids are used again */
    __u64 runtime_ns;
    __u64 io_bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __s32);
    __type(value, struct thread);
} threads SEC(".maps");

/* PIDs of processes that are to be looked at. */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} news SEC(".maps");

COUNTER_MAP(cycles);
COUNTER_MAP(instructions);
COUNTER_MAP(llc_misses);

static const struct vm_usage_process nothing;

static struct vm_usage_cpu *find_cpu(__u32 cpu)
{
    return bpf_map_lookup_elem(&cpus, &cpu);
}

static struct vm_usage_key key_of(struct task_struct *task)
{
    return (struct vm_usage_key){
        .pid = task->tgid,
        .start_ticks = task->group_leader->start_boottime / VM_USAGE_START_TICK_NS,
    };
}

static struct vm_usage_process *find_process(struct task_struct *task)
{
    struct vm_usage_key key = key_of(task);

    return bpf_map_lookup_elem(&processes, &key);
}

static __u64 io_bytes_of(struct task_struct *task)
{
    /* Kernels may be built without I/O accounting. */
    if (!bpf_core_field_exists(task->ioac.read_bytes))
        return 0;
    return task->ioac.read_bytes + task->ioac.write_bytes;
}

/* The slice. */

static __u64 busy_ns(const struct vm_usage_cpu *cpu, __u64 now)
{
    __u64 busy = *(const volatile __u64 *)&cpu->busy;

    return busy & VM_USAGE_BUSY ? now - (busy & ~VM_USAGE_BUSY) : busy;
}

static __u64 sibling_busy_ns(const struct vm_usage_cpu *cpu, __u64 now)
{
    const struct vm_usage_cpu *sibling = find_cpu(cpu->sibling);

    return sibling ? busy_ns(sibling, now) : 0;
}

/* The value of a CPU's counter, or 0: not counting now. */
static __u64 read_counter(void *map)
{
    struct bpf_perf_event_value value = {0};

    if (bpf_perf_event_read_value(map, BPF_F_CURRENT_CPU, &value, sizeof(value)) < 0)
        return 0;
    return value.counter;
}

static void read_counters(__u64 *ret)
{
    if (counters_in_use & 1u << VM_USAGE_CYCLES)
        ret[VM_USAGE_CYCLES] = read_counter(&cycles);
    if (counters_in_use & 1u << VM_USAGE_INSTRUCTIONS)
        ret[VM_USAGE_INSTRUCTIONS] = read_counter(&instructions);
    if (counters_in_use & 1u << VM_USAGE_LLC_MISSES)
        ret[VM_USAGE_LLC_MISSES] = read_counter(&llc_misses);
}

/* Totals only grow; whatever seems to fall was reset. */
static __u64 growth(__u64 now, __u64 before)
{
    return now > before ? now - before : 0;
}

static void add(__u64 *total, __u64 amount, bool shared)
{
    if (shared)
        __sync_fetch_and_add(total, amount);
    else
        *total += amount;
}

/* @param shared  other CPUs may add to it at the same time */
static void add_counts(struct vm_usage_counts *total, const struct vm_usage_counts *slice,
                       bool shared)
{
    add(&total->cpu_ns, slice->cpu_ns, shared);
    if (slice->corun_ns)
        add(&total->corun_ns, slice->corun_ns, shared);
    for (unsigned i = 0; i < VM_USAGE_COUNTERS; i++)
        if (counters_in_use & 1u << i)
            add(&total->counters[i], slice->counters[i], shared);
}

static void open_slice(struct vm_usage_cpu *cpu, struct task_struct *task, __u64 now)
{
    cpu->pid = task->pid;
    if (task->pid == 0)
        return;
    cpu->runtime_ns = task->se.sum_exec_runtime;
    cpu->io_bytes = io_bytes_of(task);
    if (cpu->sibling >= 0)
        cpu->sibling_busy_ns = sibling_busy_ns(cpu, now);
    read_counters(cpu->counters);
}

/* Counts all of a thread's future, and of its past what came after the given state. */
static void count_thread(struct task_struct *task, __u64 runtime_ns, __u64 io_bytes)
{
    struct thread thread = {task->start_boottime, runtime_ns, io_bytes};
    __s32 tid = task->pid;

    bpf_map_update_elem(&threads, &tid, &thread, BPF_ANY);
}

/* What a thread of a VM used since it was counted last, on whatever CPU it was. */
static void take_growth(struct task_struct *task, __u64 *runtime_ns, __u64 *io_bytes)
{
    __u64 runtime = task->se.sum_exec_runtime, io = io_bytes_of(task);
    __s32 tid = task->pid;
    struct thread *thread = bpf_map_lookup_elem(&threads, &tid);

    if (thread && thread->start_ns == task->start_boottime) {
        *runtime_ns = growth(runtime, thread->runtime_ns);
        *io_bytes = growth(io, thread->io_bytes);
        if (task->__state & TASK_DEAD) {
            bpf_map_delete_elem(&threads, &tid);
            return;
        }
        thread->runtime_ns = runtime;
        thread->io_bytes = io;
    } else if (!(task->__state & TASK_DEAD)) {
        count_thread(task, runtime, io);
    }
}

static void close_slice(struct vm_usage_cpu *cpu, struct task_struct *task, __u64 now)
{
    struct vm_usage_counts slice = {0};
    struct vm_usage_process *process = find_process(task);
    __u32 socket = cpu->socket;
    __u64 io_bytes = 0;

    /* Else its beginning went unseen. */
    if (cpu->pid == task->pid) {
        slice.cpu_ns = growth(task->se.sum_exec_runtime, cpu->runtime_ns);
        io_bytes = growth(io_bytes_of(task), cpu->io_bytes);
    }
    /* Since the last switch that was seen: whoever else ran meanwhile did so for short. */
    if (cpu->pid != 0) {
        if (cpu->sibling >= 0)
            slice.corun_ns = growth(sibling_busy_ns(cpu, now), cpu->sibling_busy_ns);
        read_counters(slice.counters);
        for (unsigned i = 0; i < VM_USAGE_COUNTERS; i++)
            if (counters_in_use & 1u << i)
                slice.counters[i] = growth(slice.counters[i], cpu->counters[i]);
    }
    if (process)
        take_growth(task, &slice.cpu_ns, &io_bytes);
    if (slice.corun_ns > slice.cpu_ns)
        slice.corun_ns = slice.cpu_ns;
    if (process && socket < n_sockets) {
        add_counts(&process->sockets[socket], &slice, true);
        if (io_bytes)
            add(&process->io_bytes, io_bytes, true);
    } else {
        add_counts(&cpu->others, &slice, false);
        cpu->others_io_bytes += io_bytes;
    }
}

static __u64 clock_of(const struct vm_usage_cpu *cpu)
{
    /* Without a sibling nobody asks for the time. */
    return cpu->sibling >= 0 ? bpf_ktime_get_ns() : 0;
}

static void note_busy(struct vm_usage_cpu *cpu, bool busy, __u64 now)
{
    __u64 total = busy_ns(cpu, now);

    if (cpu->sibling >= 0 && busy != !!(cpu->busy & VM_USAGE_BUSY))
        *(volatile __u64 *)&cpu->busy = busy ? VM_USAGE_BUSY | (now - total) : total;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_slices, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    struct vm_usage_cpu *cpu = find_cpu(bpf_get_smp_processor_id());
    __u64 now;

    if (!cpu)
        return 0;
    now = clock_of(cpu);
    if (prev->pid != 0)
        close_slice(cpu, prev, now);
    note_busy(cpu, next->pid != 0, now);
    open_slice(cpu, next, now);
    return 0;
}

/* Run by user space on a CPU of its choice. */
SEC("raw_tp/sched_switch")
int close_running_slice(void *context)
{
    struct vm_usage_cpu *cpu = find_cpu(bpf_get_smp_processor_id());
    struct task_struct *task = bpf_get_current_task_btf();
    __u64 now;

    if (!cpu || task->pid == 0)
        return 0;
    now = clock_of(cpu);
    close_slice(cpu, task, now);
    note_busy(cpu, true, now);
    open_slice(cpu, task, now);
    return task->tgid;
}

/* The map of processes. */

static void tell(__u32 pid)
{
    if (bpf_ringbuf_output(&news, &pid, sizeof(pid), BPF_RB_NO_WAKEUP) < 0)
        __sync_fetch_and_add(&unheard, 1);
}

/* From now on; for want of room it stays among the others, which user space will notice. */
static void list_process(struct task_struct *task)
{
    struct vm_usage_key key = key_of(task);

    if (bpf_map_update_elem(&processes, &key, &nothing, BPF_NOEXIST) == 0)
        count_thread(task, task->se.sum_exec_runtime, io_bytes_of(task));
    tell(key.pid);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(list_child, struct task_struct *parent, struct task_struct *child)
{
    struct vm_usage_process *process;

    if (!find_process(parent))
        return 0;
    if (child->pid != child->tgid) {
        count_thread(child, 0, 0);
        return 0;
    }
    list_process(child);
    process = find_process(child);
    if (process)
        process->parent = key_of(parent);
    return 0;
}

#define NAME_SIZE 32
#define COMM_SIZE 16

static __always_inline bool is_equal(const char *a, const char *b, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* The terminating zero is part of a name, not of a prefix. */
#define IS_NAME(word) is_equal(name, word, sizeof(word)) ||
#define HAS_PREFIX(prefix) is_equal(name, prefix, sizeof(prefix) - 1)

static bool is_vm_executable(const char *name)
{
    return QEMU_NAMES(IS_NAME) HELPER_NAMES(IS_NAME) HAS_PREFIX(QEMU_PREFIX);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(list_program, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
    const unsigned char *path = program->file->f_path.dentry->d_name.name;
    char name[NAME_SIZE] = {0};

    bpf_probe_read_kernel_str(name, sizeof(name), path);
    if (is_vm_executable(name))
        list_process(task);
    else if (find_process(task))
        tell(task->tgid); /* it is no longer what it was */
    return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(list_vhost, struct task_struct *task, const char *comm)
{
    char name[NAME_SIZE] = {0};

    bpf_probe_read_kernel_str(name, COMM_SIZE, comm);
    if ((task->flags & PF_KTHREAD) && HAS_PREFIX(VHOST_PREFIX))
        list_process(task);
    else if (HAS_PREFIX(VCPU_PREFIX) && find_process(task))
        tell(task->tgid); /* a vCPU was plugged */
    return 0;
}

/* The names of machine_cgroup.c, which has the last word. */
#define MACHINE_PREFIX "machine-qemu"
#define MACHINE_SUFFIX ".libvirt-qemu"

static bool is_machine(const struct cgroup *cgroup)
{
    char name[64] = {0}, tail[sizeof(MACHINE_SUFFIX)] = {0};
    const char *whole = BPF_CORE_READ(cgroup, kn, name);
    int length = bpf_probe_read_kernel_str(name, sizeof(name), whole);

    if (HAS_PREFIX(MACHINE_PREFIX))
        return true;
    if (length < (int)sizeof(MACHINE_SUFFIX))
        return false;
    bpf_probe_read_kernel_str(tail, sizeof(tail), whole + length - sizeof(MACHINE_SUFFIX));
    return is_equal(tail, MACHINE_SUFFIX, sizeof(MACHINE_SUFFIX));
}

/* Machine, libvirt's sub-group, and its groups of threads. */
#define MACHINE_DEPTH 3

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(list_member, struct cgroup *cgroup, const char *path, struct task_struct *task,
             bool threadgroup)
{
    struct cgroup *group = cgroup;

    if (task->pid != task->tgid)
        return 0;
    for (int depth = 0; depth < MACHINE_DEPTH && group; depth++) {
        if (is_machine(group)) {
            list_process(task);
            return 0;
        }
        group = (struct cgroup *)BPF_CORE_READ(group, self.parent);
    }
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(note_end, struct task_struct *task)
{
    struct vm_usage_process *process = find_process(task);
    char name[COMM_SIZE] = {0};

    if (!process)
        return 0;
    bpf_probe_read_kernel_str(name, sizeof(name), task->comm);
    if (task->signal->live.counter == 0)
        process->ended = 1; /* its threads go on to be charged until their last switch */
    else if (!HAS_PREFIX(VCPU_PREFIX))
        return 0; /* an end that changes nothing */
    tell(task->tgid);
    return 0;
}
