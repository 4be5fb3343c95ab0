/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * What an HTTP request costs: reported in a header of its response, and in full
 * when the last work for the request is done.
 *
 *     bytes received --(request's head)--> request <--(work of the tasks bound to it)-- scheduler
 *                                             |
 *     bytes sent <--(X-Energy-Score)----------+--(when it is over)--> ring buffer
 *
 * Only inbound connections are followed. sockops on the watched cgroups begins with each
 * when it is established. Connections that are older, if their port is one that is
 * listened on, are followed from their next request on. Each connection gets a struct
 * connection with its socket, and a place in the map of sockets, which makes the
 * socket run rewrite_response() on all that it sends.
 *
 * Requests are read where the application reads them: at the return of tcp_recvmsg(),
 * from the buffer that was just filled. That costs nothing for bytes that are not
 * wanted, sees each byte once and in order (packets may come twice and crossed), shows
 * which task reads, and leaves the receiving path as it is (a stream parser on the
 * socket would take the path over, and FIONREAD and splice with it). Bytes that are
 * spliced away are not seen: they are a body, or the connection is lost.
 *
 * Responses are followed as they are sent. The field goes in right behind the status
 * line: that place is known as soon as the first byte of the next line is there,
 * however the head is cut; nothing is ever held back. A field of that name by the
 * application comes later, and loses a letter of its name. All of this follows the
 * rules of http_stream.h; a connection with anything doubtful is left alone from there
 * on, for ever.
 *
 * Places in the streams are TCP's sequence numbers, extended to 64 bits. The kernel may
 * take fewer bytes than it was given, and the sender sends the rest again. That must not
 * happen to bytes that a program let pass: the kernel then shows the program none of the
 * next ones, and miscounts what it took of a part that grew. So a verdict covers no more
 * than the socket is guaranteed to take, and where that is nothing, a single byte of a
 * head, which is taken or is not. The field then waits for a line before which there is
 * room; if there is none, as may be where the client pipelines and reads slowly, that
 * response has no field.
 *
 * Requests are answered in order. A task that reads from or writes to a connection
 * works for the oldest request there that has no response yet.
 */

#include "lib/connection.bpf.h"
#include "lib/fionread.bpf.h"
#include "lib/follow.bpf.h"
#include "lib/received.bpf.h"
#include "lib/sent.bpf.h"
#include "lib/worker.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Connections. */

SEC("sockops")
int follow_connection(struct bpf_sock_ops *ops)
{
    follow_established(ops);
    return 1;
}

/* Run by user space for a cgroup when it begins to watch it. */
SEC("iter/tcp")
int follow_older_connections(struct bpf_iter__tcp *context)
{
    follow_existing(context->sk_common);
    return 0;
}

/*
 * Runs when the last user of the socket has gone. A connection that the client has reset is
 * closed before, but a server still reads what came, and works for it.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(close_connection, struct sock *sk)
{
    conn_close(sk);
    return 0;
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(read_at_exit, struct sock *sk, struct msghdr *message, __u64 size, int flags,
             int *address_length, int n)
{
    received_at_exit(sk, message, flags, n);
    return 0;
}

/* Where the kernel refuses fexit: the tracepoint behind it (Linux 6.3). It does not see reads by
 * io_uring. */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(read_at_tracepoint, struct sock *sk, int n, int flags)
{
    received_at_tracepoint(sk, flags, n);
    return 0;
}

/* Run by user space after reads that left something, where FIONREAD is broken. */
SEC("iter/tcp")
int wake_readers(struct bpf_iter__tcp *context)
{
    fionread_wake_reader(context->sk_common);
    return 0;
}

SEC("sk_msg")
int rewrite_response(struct sk_msg_md *message)
{
    return sent_rewrite(message);
}

/* Tasks. */

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_tasks, bool preempt, struct task_struct *prev, struct task_struct *next)
{
    worker_switch_tasks(preempt, prev, next);
    return 0;
}

/* Run by user space on each CPU before it reads the totals. */
SEC("raw_tp/sched_switch")
int close_running_slice(void *context)
{
    worker_close_slice();
    return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(count_wakeup, struct task_struct *task)
{
    worker_count_wakeup(task);
    return 0;
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(count_migration, struct task_struct *task, int to)
{
    worker_count_migration(task);
    return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(hand_over, struct task_struct *task)
{
    worker_wake(task);
    return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(hand_to_child, struct task_struct *parent, struct task_struct *child)
{
    worker_fork(child);
    return 0;
}

/*
 * The kernel gets to all system calls by this tracepoint. Those of the single calls cost as
 * much, and would take a perf event each, for which Debian requires CAP_SYS_ADMIN. This
 * one makes every call of every task slower, so user space attaches it only when a task
 * has been seen to serve several requests at a time. A task that answers each request
 * before it reads the next shows all that is needed by its reads, its writes and its sleep.
 */
SEC("raw_tp/sys_enter")
int enter_call(struct bpf_raw_tracepoint_args *arguments)
{
    worker_enter_call(arguments->args[1]);
    return 0;
}

/* User space runs it with the frequencies of the start; cpufreq reports changes. */
SEC("raw_tp/cpu_frequency")
int change_frequency(struct bpf_raw_tracepoint_args *arguments)
{
    worker_change_frequency(arguments->args[0], arguments->args[1]);
    return 0;
}
