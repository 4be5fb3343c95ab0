/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Readers that stopped too early. A part of request_energy.bpf.c.
 *
 * Linux since 929e30f93125 (6.6.128, 6.12.75, 6.18.14, 6.19), until 04af4efde58a,
 * answers FIONREAD for a socket in a map of sockets, without a program on the
 * receiving side, as if there were nothing to read. nginx asks so after every full
 * buffer, and then waits for an event that does not come. There, user space runs
 * wake_readers() after reads that left something: setting SO_RCVLOWAT, to what it
 * is, has TCP tell again that there is something to read. It reaches the sockets of
 * user space's own network namespace.
 */

#include "request_connection.h"

#define SOL_SOCKET 1
#define SO_RCVLOWAT 18

/* Reads that left something. */
__u64 left_unread = 0;

static bool has_unread(const struct tcp_sock *tcp)
{
    return BPF_CORE_READ(tcp, rcv_nxt) != BPF_CORE_READ(tcp, copied_seq);
}

SEC("iter/tcp")
int wake_readers(struct bpf_iter__tcp *context)
{
    struct sock_common *sk = context->sk_common;
    struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
    int lowest;

    if (!tcp || !has_unread(tcp) || !bpf_sk_storage_get(&connections, tcp, NULL, 0))
        return 0;
    lowest = BPF_CORE_READ((struct sock *)tcp, sk_rcvlowat);
    bpf_setsockopt(tcp, SOL_SOCKET, SO_RCVLOWAT, &lowest, sizeof(lowest));
    return 0;
}
