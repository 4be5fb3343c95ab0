/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Requests, as they are read. A part of request_energy.bpf.c. */

#include "request_unread.h"

#define VECTORS_MAX 8 /* buffers of one read */

static void begin_request(struct connection *c)
{
    struct request request = {
        .id = id_of(c, c->next),
        .method = c->in.method,
        .arrived_ns = bpf_ktime_get_ns(),
        .path_length = c->in.path_length,
    };

    __builtin_memcpy(request.path, c->in.path, sizeof(request.path));
    if (c->next - c->first >= PIPELINE_MAX ||
        bpf_map_update_elem(&requests, &request.id, &request, BPF_NOEXIST) < 0) {
        __sync_fetch_and_add(&refused, 1);
        http_lose(&c->in);
        return;
    }
    c->next++;
}

/* @return whether the byte that is next is in the chunk */
static bool load_chunk(struct connection *c)
{
    struct received *r = &c->received;
    __u64 length = r->n - r->i;

    if (r->i < r->to)
        return true;
    barrier_var(length); /* else the verifier loses what the comparison says */
    if (length > CHUNK)
        length = CHUNK;
    if (bpf_probe_read_user(c->chunk, length, r->bytes + r->i) < 0)
        return false;
    r->from = r->i;
    r->to = r->i + length;
    return true;
}

/* One byte, or more of what says nothing. @return whether that was all */
static __always_inline bool receive_some(struct connection *c)
{
    struct received *r = &c->received;
    struct http_stream *in = &c->in;
    __u64 offset;

    if (r->i >= r->n || in->state == HTTP_LOST)
        return true;
    if (http_is_in_body(in)) {
        __u32 length = http_body_bytes(in, r->n - r->i);

        http_skip(in, length);
        r->i += length;
        return false;
    }
    if (!load_chunk(c)) {
        http_lose(in);
        return true;
    }
    offset = r->i - r->from;
    barrier_var(offset);
    if (r->to - r->i >= sizeof(__u64) && offset <= CHUNK - sizeof(__u64)) {
        __u32 n = http_word(in, *(__u64 *)(c->chunk + offset));

        r->i += n;
        if (n)
            return false;
    }
    if (http_step(in, c->chunk[offset & (CHUNK - 1)]) == HTTP_HEAD)
        begin_request(c);
    r->i++;
    return false;
}

static long receive_step(__u32 index, struct connection **context)
{
    for (int i = 0; i < STEPS_AT_ONCE; i++) {
        if (receive_some(*context))
            return 1;
        barrier(); /* else the verifier follows what the step before left in registers */
    }
    return 0;
}

static void receive(struct connection *c, const char *bytes, __u32 n)
{
    c->received = (struct received){.bytes = bytes, .n = n};
    bpf_loop(1 << 20, receive_step, &c, 0);
}

/* Where a task has read to: one buffer, or several; neither if that is not known. */
struct destination {
    const char *bytes;
    const struct iovec *vectors; /* of the application */
};

static void receive_vectors(struct connection *c, const struct iovec *vectors, __u32 n)
{
    for (int i = 0; i < VECTORS_MAX && n; i++) {
        struct iovec vector = {0};

        bpf_probe_read_user(&vector, sizeof(vector), vectors + i);
        if (vector.iov_len > n)
            vector.iov_len = n;
        receive(c, vector.iov_base, vector.iov_len);
        n -= vector.iov_len;
    }
}

/* Where an iterator's last n bytes went, if they lie in one buffer. */
static const char *find_bytes(const struct iov_iter *iter, __u32 n)
{
    __u64 offset = BPF_CORE_READ(iter, iov_offset), length;
    __u8 type = BPF_CORE_READ(iter, iter_type);
    const struct iovec *vector;

    if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
        type == bpf_core_enum_value(enum iter_type, ITER_UBUF))
        return (const char *)BPF_CORE_READ(iter, ubuf) + offset - n;
    if (type != bpf_core_enum_value(enum iter_type, ITER_IOVEC))
        return NULL;
    if (bpf_core_field_exists(((struct iov_iter___renamed *)iter)->__iov))
        vector = BPF_CORE_READ((struct iov_iter___renamed *)iter, __iov);
    else
        vector = BPF_CORE_READ(iter, iov);
    if (offset >= n)
        return (const char *)BPF_PROBE_READ(vector, iov_base) + offset - n;
    if (offset)
        return NULL; /* it lies in two */
    length = BPF_PROBE_READ(vector - 1, iov_len);
    return length >= n ? (const char *)BPF_PROBE_READ(vector - 1, iov_base) + length - n : NULL;
}

/* The place behind the last byte that was read. */
static __u32 end_of_read(const struct tcp_sock *tcp)
{
    const struct sock *sk = (const struct sock *)tcp;

    /* The end of the stream has a number as well, and may have been read together with bytes. */
    return sk->sk_shutdown & RCV_SHUTDOWN && tcp->rcv_nxt == tcp->copied_seq ? tcp->copied_seq - 1
                                                                             : tcp->copied_seq;
}

/* The connection of which something was read that counts. */
static struct connection *find_read(struct sock *sk, int flags, int n)
{
    struct connection *c;

    if (n <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE))
        return NULL;
    c = bpf_sk_storage_get(&connections, sk, NULL, 0);
    if (!c)
        return NULL;
    if (has_unread((struct tcp_sock *)sk))
        __sync_fetch_and_add(&left_unread, 1);
    return c->in.state != HTTP_LOST ? c : NULL;
}

static void read_requests(struct connection *c, struct sock *sk,
                          const struct destination *destination, int flags, int n)
{
    const struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    __u32 end;

    if (!tcp)
        return;
    end = end_of_read(tcp);
    /* One that reads on when the client has all that was sent has answered the former requests. */
    if (c->is_unstarted && tcp->snd_una == tcp->write_seq)
        start(c, end - n, tcp->write_seq);
    if (c->is_unstarted)
        return;
    if (c->out.state == HTTP_BODY)
        settle(c, tcp->write_seq);
    http_seek(&c->in, place_of(&c->in, end - n));
    if (destination->bytes && !(flags & MSG_TRUNC))
        receive(c, destination->bytes, n);
    else if (destination->vectors && !(flags & MSG_TRUNC))
        receive_vectors(c, destination->vectors, n);
    http_seek(&c->in, place_of(&c->in, end));
    if (first_request(c))
        turn_to_read(first_request(c));
}

/* By what the system call was asked for. */
static struct destination find_argument(void)
{
    struct pt_regs *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
    const char *argument = (const char *)registers->si;
    struct user_msghdr message = {0};

    switch (registers->orig_ax) {
    case NR_read:
    case NR_recvfrom:
        return (struct destination){.bytes = argument};
    case NR_readv:
        return (struct destination){.vectors = (const struct iovec *)argument};
    case NR_recvmsg:
        bpf_probe_read_user(&message, sizeof(message), argument);
        return (struct destination){.vectors = message.msg_iov};
    default:
        return (struct destination){0};
    }
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(read_at_exit, struct sock *sk, struct msghdr *message, __u64 size, int flags,
             int *address_length, int n)
{
    struct connection *c = find_read(sk, flags, n);
    struct destination destination = {0};

    if (!c)
        return 0;
    destination.bytes = find_bytes(&message->msg_iter, n);
    if (!destination.bytes)
        destination = find_argument();
    read_requests(c, sk, &destination, flags, n);
    return 0;
}

/*
 * Where fexit is refused: the tracepoint behind it (Linux 6.3). Reads by
 * io_uring are not seen.
 */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(read_at_tracepoint, struct sock *sk, int n, int flags)
{
    struct connection *c = find_read(sk, flags, n);
    struct destination destination;

    if (!c)
        return 0;
    destination = find_argument();
    read_requests(c, sk, &destination, flags, n);
    return 0;
}
