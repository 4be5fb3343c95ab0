/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* A map of sockets whose program does nothing: what the kernel's own part of it costs. */

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 65536);
    __type(key, __u64);
    __type(value, __u64);
} sockets SEC(".maps");

SEC("sockops")
int follow_connection(struct bpf_sock_ops *ops)
{
    __u64 cookie = bpf_get_socket_cookie(ops);

    if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
        bpf_sock_hash_update(ops, &sockets, &cookie, BPF_NOEXIST);
    return 1;
}

SEC("sk_msg")
int pass(struct sk_msg_md *message)
{
    return SK_PASS;
}
