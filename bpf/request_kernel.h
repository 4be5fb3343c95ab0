/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The parts of the network's structures that request_energy.bpf.c reads (CO-RE). */

#include "kernel.h"

#include <bpf/bpf_endian.h>
#include <linux/errno.h>

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_read 0
#define NR_poll 7
#define NR_readv 19
#define NR_select 23
#define NR_accept 43
#define NR_recvfrom 45
#define NR_recvmsg 47
#define NR_epoll_wait 232
#define NR_pselect6 270
#define NR_ppoll 271
#define NR_epoll_pwait 281
#define NR_accept4 288
#define NR_io_uring_enter 426
#define NR_epoll_pwait2 441

#define RCV_SHUTDOWN 1

/* include/net/tcp.h */
#define TCP_NAGLE_CORK 2

/* include/net/tcp_states.h; linux/bpf.h has its own names */
#define TCP_ESTABLISHED BPF_TCP_ESTABLISHED
#define TCP_LISTEN BPF_TCP_LISTEN

#define MSG_PEEK 0x02
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000

/* As a process passes it: the order is the kernel's for ever. */
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

struct pt_regs {
    unsigned long si;
    unsigned long orig_ax;
};

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

/* Since 6.4. */
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
