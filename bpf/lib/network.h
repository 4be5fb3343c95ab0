/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The parts of the kernel's structures for sockets that request_energy.bpf.c reads (CO-RE). */

#include "lib/kernel.h"

#include <linux/errno.h>

#define RCV_SHUTDOWN 1

/* include/net/tcp.h */
#define TCP_NAGLE_CORK 2

/* include/net/tcp_states.h; linux/bpf.h has names of its own for them */
#define TCP_ESTABLISHED BPF_TCP_ESTABLISHED
#define TCP_LISTEN BPF_TCP_LISTEN

#define MSG_PEEK 0x02
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000

/* As a process passes it to recvmsg(): the kernel never changes this layout. */
struct user_msghdr {
    void *msg_name;
    int msg_namelen;
    const struct iovec *msg_iov;
    __u64 msg_iovlen;
};

struct iovec {
    void *iov_base;
    __u64 iov_len;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum iter_type {
    ITER_IOVEC,
    ITER_UBUF = 6,
};

struct iov_iter {
    __u8 iter_type;
    __u64 iov_offset;
    const struct iovec *iov;
    void *ubuf;
};

/* Since Linux 6.4. */
struct iov_iter___renamed {
    const struct iovec *__iov;
};

struct msghdr {
    struct iov_iter msg_iter;
};

struct netns_ipv4 {
    unsigned int sysctl_tcp_notsent_lowat;
};

struct net {
    struct netns_ipv4 ipv4;
};

typedef struct {
    struct net *net;
} possible_net_t;

struct sock_common {
    possible_net_t skc_net;
    unsigned short skc_num;
    volatile unsigned char skc_state;
};

struct sock_cgroup_data {
    struct cgroup *cgroup;
};

struct sock {
    struct sock_common __sk_common;
    struct sock_cgroup_data sk_cgrp_data;
    int sk_rcvlowat;
    int sk_wmem_queued;
    int sk_sndbuf;
    __u8 sk_shutdown;
};

struct tcp_sock {
    __u32 rcv_nxt;
    __u32 copied_seq;
    __u32 write_seq;
    __u32 snd_nxt;
    __u32 snd_una;
    __u32 mss_cache;
    __u32 notsent_lowat;
    __u8 nonagle : 4;
};

struct bpf_iter__tcp {
    struct sock_common *sk_common;
};

#pragma clang attribute pop
