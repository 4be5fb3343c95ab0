/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * What an HTTP request costs: told in the header of its response, and in full
 * when the last work for it is done.
 *
 *     bytes received --(request's head)--> request <--(work of the tasks bound to it)-- scheduler
 *                                             |
 *     bytes sent <--(X-Energy-Score)----------+--(when it is over)--> ring buffer
 *
 * Connections are taken in when they are established, by sockops on the watched
 * cgroups, inbound ones only. Those that were there before, if their port is one
 * that is listened on, start with the next request. Each gets a struct connection with its
 * socket, and a place in the map of sockets, which makes it run rewrite_response() on all it sends.
 *
 * Requests are read where the application reads them: at the return of
 * tcp_recvmsg(), from the buffer that was just filled. That costs nothing for
 * bytes that nobody asked for, sees them once and in order (packets may come
 * twice and crossed), tells who reads, and leaves the receiving path as it is (a
 * stream parser on the socket would take it over, FIONREAD and splice with it).
 * What is spliced away is not seen; it is a body, or the connection is lost.
 *
 * Responses are followed as they are sent. The field goes in right behind the
 * status line: that place is known as soon as the first byte of the next line
 * is there, however the head is cut; nothing is ever held back. A field of that
 * name by the application comes later, and loses a letter of its name. All of it
 * is done by the rules of http_stream.h; what is doubtful is left alone, from
 * there on for ever.
 *
 * Places in the streams are TCP's sequence numbers, drawn out to 64 bits. The
 * kernel may take less than it was given, and the sender sends the rest again.
 * That must not happen to bytes of which a program said that they may pass: the
 * kernel then shows it none of the next ones, and miscounts what it took of a
 * part that grew. So a verdict is on no more than the socket takes for sure, and
 * where that is nothing, on a single byte of a head, which is taken or is not. The
 * field then waits for a line before which there is room; if there is none, as may
 * be where the client pipelines and reads slowly, that response has no field.
 *
 * Requests are answered in order. A task that reads from or writes to a
 * connection works for the oldest request there that has no response yet.
 */

#include "request_received.h"
#include "request_sent.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define CGROUP_LEVELS_MAX 64

/* Set while older connections are taken in: the cgroup whose they are. */
__u64 older_cgroup = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u16);
    __type(value, __u8);
} listening SEC(".maps");

static void give_up(void *sk, long error)
{
    if (error == -EBUSY)
        __sync_fetch_and_add(&taken, 1);
    bpf_sk_storage_delete(&connections, sk);
}

SEC("sockops")
int take_in(struct bpf_sock_ops *ops)
{
    struct bpf_sock *sk = ops->sk;
    struct connection *c;
    __u64 cookie;
    long r;

    /* One cgroup may lie in another: both links run this. */
    if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || !sk ||
        bpf_sk_storage_get(&connections, sk, NULL, 0))
        return 1;
    c = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c)
        return 1;
    cookie = bpf_get_socket_cookie(ops);
    c->cookie = cookie;
    start(c, ops->rcv_nxt, ops->snd_nxt);
    r = bpf_sock_hash_update(ops, &sockets, &cookie, BPF_NOEXIST);
    if (r < 0)
        give_up(sk, r);
    return 1;
}

struct levels {
    const struct cgroup *cgroup;
    bool is_older;
};

static long climb(__u32 i, struct levels *levels)
{
    const struct cgroup *cgroup = levels->cgroup;

    if (!cgroup)
        return 1;
    if (BPF_CORE_READ(cgroup, kn, id) == older_cgroup) {
        levels->is_older = true;
        return 1;
    }
    levels->cgroup = (const struct cgroup *)BPF_CORE_READ(cgroup, self.parent);
    return 0;
}

static bool is_in_older_cgroup(const struct sock_common *sk)
{
    struct levels levels = {
        .cgroup = BPF_CORE_READ((const struct sock *)sk, sk_cgrp_data.cgroup),
    };

    bpf_loop(CGROUP_LEVELS_MAX, climb, &levels, 0);
    return levels.is_older;
}

static void take_in_older(struct tcp_sock *tcp)
{
    struct connection *c;
    __u64 cookie;
    long r;

    if (bpf_sk_storage_get(&connections, tcp, NULL, 0))
        return;
    c = bpf_sk_storage_get(&connections, tcp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c)
        return;
    cookie = bpf_get_socket_cookie(tcp);
    c->cookie = cookie;
    c->is_unstarted = true;
    r = bpf_map_update_elem(&sockets, &cookie, tcp, BPF_NOEXIST);
    if (r < 0)
        give_up(tcp, r);
}

/* Those that were there before us, of a cgroup. The kernel shows what listens first. */
SEC("iter/tcp")
int take_in_older_ones(struct bpf_iter__tcp *context)
{
    struct sock_common *sk = context->sk_common;
    struct tcp_sock *tcp;
    __u16 port;

    if (!sk || !is_in_older_cgroup(sk))
        return 0;
    port = sk->skc_num;
    if (sk->skc_state == TCP_LISTEN)
        bpf_map_update_elem(&listening, &port, &(__u8){1}, BPF_ANY);
    else if (sk->skc_state == TCP_ESTABLISHED && bpf_map_lookup_elem(&listening, &port)) {
        tcp = bpf_skc_to_tcp_sock(sk);
        if (tcp)
            take_in_older(tcp);
    }
    return 0;
}

/*
 * When nobody has it any more. One that the client has reset is closed before,
 * but a server still reads what came, and works for it.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(close_connection, struct sock *sk)
{
    struct connection *c = bpf_sk_storage_get(&connections, sk, NULL, 0);

    if (!c)
        return 0;
    if (c->out.state == HTTP_BODY)
        settle(c, BPF_CORE_READ((struct tcp_sock *)sk, snd_nxt));
    leave_requests(c);
    return 0;
}
