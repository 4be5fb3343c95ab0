/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The parts of the network's structures that request_energy.bpf.c reads (CO-RE). */

#include <linux/ptrace.h>

#include "kernel.h"

#include <bpf/bpf_endian.h>

#define MSG_PEEK 0x02
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum iter_type {
    ITER_IOVEC,
    ITER_UBUF = 6,
};

struct iovec {
    void *iov_base;
    __u64 iov_len;
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

struct sock {
    int sk_wmem_queued;
    int sk_sndbuf;
};

struct tcp_sock {
    __u32 copied_seq;
    __u32 write_seq;
};

#pragma clang attribute pop
