/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Readers that FIONREAD stopped too early.
 *
 * Linux since 929e30f93125 (6.6.128, 6.12.75, 6.18.14, 6.19), until 04af4efde58a,
 * answers FIONREAD for a socket in a map of sockets, without a program on the
 * receiving side, as if there were nothing to read. nginx asks so after every full
 * buffer, and then waits for an event that does not come. On such a kernel, user space
 * runs wake_readers() after reads that left something: setting SO_RCVLOWAT to the value
 * that it has makes TCP announce again that there is something to read. This reaches the
 * sockets of user space's own network namespace.
 */

#include "lib/connection.bpf.h"
#include "lib/kernel.h"
#include "lib/network.h"

#define SOL_SOCKET 1
#define SO_RCVLOWAT 18

/* Read by user space: reads that left something. */
__u64 partial_reads = 0;

static bool fionread_has_unread(const struct tcp_sock *tcp)
{
    return BPF_CORE_READ(tcp, rcv_nxt) != BPF_CORE_READ(tcp, copied_seq);
}

static void fionread_note_read(struct sock *sk)
{
    if (fionread_has_unread((struct tcp_sock *)sk))
        __sync_fetch_and_add(&partial_reads, 1);
}

static void fionread_wake_reader(struct sock_common *sk)
{
    struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
    int lowest;

    if (!tcp || !fionread_has_unread(tcp) || !bpf_sk_storage_get(&connections, tcp, NULL, 0))
        return;
    lowest = BPF_CORE_READ((struct sock *)tcp, sk_rcvlowat);
    bpf_setsockopt(tcp, SOL_SOCKET, SO_RCVLOWAT, &lowest, sizeof(lowest));
}
