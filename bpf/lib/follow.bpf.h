/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Beginning to follow connections: when they are established, or later if they are older than
 * our programs. This fragment owns the ports that are listened on.
 */

#include "lib/connection.bpf.h"
#include "lib/kernel.h"
#include "lib/network.h"

#define CGROUP_LEVELS_MAX 64

/* Read by user space. */
__u64 foreign = 0; /* connections that are in another program's map of sockets */

/* Set by user space before follow_older_connections() runs: the cgroup of the connections. */
__u64 older_cgroup = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u16);
    __type(value, __u8);
} listening SEC(".maps");

static void follow_give_up(void *sk, long error)
{
    if (error == -EBUSY)
        __sync_fetch_and_add(&foreign, 1);
    bpf_sk_storage_delete(&connections, sk);
}

static void follow_established(struct bpf_sock_ops *ops)
{
    struct bpf_sock *sk = ops->sk;
    struct connection *c;
    __u64 cookie;
    long r;

    /* One watched cgroup may lie in another: then both links run this. */
    if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || !sk ||
        bpf_sk_storage_get(&connections, sk, NULL, 0))
        return;
    c = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c)
        return;
    cookie = bpf_get_socket_cookie(ops);
    c->cookie = cookie;
    conn_start(c, ops->rcv_nxt, ops->snd_nxt);
    r = bpf_sock_hash_update(ops, &sockets, &cookie, BPF_NOEXIST);
    if (r < 0)
        follow_give_up(sk, r);
}

struct follow_levels {
    const struct cgroup *cgroup;
    bool is_older;
};

static long follow_climb(__u32 i, struct follow_levels *levels)
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

static bool follow_is_in_older_cgroup(const struct sock_common *sk)
{
    struct follow_levels levels = {
        .cgroup = BPF_CORE_READ((const struct sock *)sk, sk_cgrp_data.cgroup),
    };

    bpf_loop(CGROUP_LEVELS_MAX, follow_climb, &levels, 0);
    return levels.is_older;
}

static void follow_older(struct tcp_sock *tcp)
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
        follow_give_up(tcp, r);
}

/* Of a socket that exists already. The kernel shows listening sockets first. */
static void follow_existing(struct sock_common *sk)
{
    struct tcp_sock *tcp;
    __u16 port;

    if (!sk || !follow_is_in_older_cgroup(sk))
        return;
    port = sk->skc_num;
    if (sk->skc_state == TCP_LISTEN)
        bpf_map_update_elem(&listening, &port, &(__u8){1}, BPF_ANY);
    else if (sk->skc_state == TCP_ESTABLISHED && bpf_map_lookup_elem(&listening, &port)) {
        tcp = bpf_skc_to_tcp_sock(sk);
        if (tcp)
            follow_older(tcp);
    }
}
