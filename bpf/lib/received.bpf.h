/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Requests, as the application reads them. */

#include "lib/arch.h"
#include "lib/connection.bpf.h"
#include "lib/fionread.bpf.h"
#include "lib/kernel.h"
#include "lib/network.h"
#include "shared/http_words.h"

#define VECTORS_MAX 8 /* buffers of one read */

static void received_begin_request(struct connection *c)
{
    struct request request = {
        .id = conn_request_id(c, c->next),
        .method = c->in.method,
        .arrived_ns = bpf_ktime_get_ns(),
        .path_length = c->in.path_length,
    };

    __builtin_memcpy(request.path, c->in.path, sizeof(request.path));
    if (c->next - c->first >= PIPELINE_MAX ||
        bpf_map_update_elem(&requests, &request.id, &request, BPF_NOEXIST) < 0) {
        __sync_fetch_and_add(&requests_dropped, 1);
        http_lose(&c->in);
        return;
    }
    c->next++;
}

/* @return whether the next byte is in the chunk */
static bool received_load_chunk(struct connection *c)
{
    struct received *r = &c->received;
    __u64 length = r->n - r->i;

    if (r->i < r->to)
        return true;
    barrier_var(length); /* else the verifier forgets the comparison */
    if (length > CHUNK)
        length = CHUNK;
    if (bpf_probe_read_user(c->chunk, length, r->bytes + r->i) < 0)
        return false;
    r->from = r->i;
    r->to = r->i + length;
    return true;
}

/* Feeds one byte, or several that cannot change the state. @return whether that was all */
static __always_inline bool received_feed(struct connection *c)
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
    if (!received_load_chunk(c)) {
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
    if (http_step(in, c->chunk[offset & (CHUNK - 1)]) == HTTP_HEAD_END)
        received_begin_request(c);
    r->i++;
    return false;
}

static long received_step(__u32 index, struct connection **context)
{
    for (int i = 0; i < STEPS_AT_ONCE; i++) {
        if (received_feed(*context))
            return 1;
        barrier(); /* else the verifier follows what the step before left in registers */
    }
    return 0;
}

static void received_feed_bytes(struct connection *c, const char *bytes, __u32 n)
{
    c->received = (struct received){.bytes = bytes, .n = n};
    bpf_loop(1 << 20, received_step, &c, 0);
}

/* Where the bytes of a read are: in one buffer, or several; neither: it is not known. */
struct received_place {
    const char *bytes;
    const struct iovec *vectors; /* of the application */
};

static void received_feed_vectors(struct connection *c, const struct iovec *vectors, __u32 n)
{
    for (int i = 0; i < VECTORS_MAX && n; i++) {
        struct iovec vector = {0};

        bpf_probe_read_user(&vector, sizeof(vector), vectors + i);
        if (vector.iov_len > n)
            vector.iov_len = n;
        received_feed_bytes(c, vector.iov_base, vector.iov_len);
        n -= vector.iov_len;
    }
}

/* @return where an iterator's last n bytes went, or NULL: they do not lie in one buffer */
static const char *received_bytes(const struct iov_iter *iter, __u32 n)
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

/* @return the sequence number behind the last byte that was read */
static __u32 received_end(const struct tcp_sock *tcp)
{
    const struct sock *sk = (const struct sock *)tcp;

    /* The end of the stream has a sequence number as well, and may be read together with bytes. */
    return sk->sk_shutdown & RCV_SHUTDOWN && tcp->rcv_nxt == tcp->copied_seq ? tcp->copied_seq - 1
                                                                             : tcp->copied_seq;
}

/* @return the connection, if what was read may be requests */
static struct connection *received_find(struct sock *sk, int flags, int n)
{
    struct connection *c;

    if (n <= 0 || flags & (MSG_PEEK | MSG_ERRQUEUE))
        return NULL;
    c = bpf_sk_storage_get(&connections, sk, NULL, 0);
    if (!c)
        return NULL;
    fionread_note_read(sk);
    return c->in.state != HTTP_LOST ? c : NULL;
}

static void received_read(struct connection *c, struct sock *sk, const struct received_place *place,
                          int flags, int n)
{
    const struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    __u32 end;

    if (!tcp)
        return;
    end = received_end(tcp);
    /* A server that reads on when the client has all that was sent has answered the former
     * requests. */
    if (c->is_unstarted && tcp->snd_una == tcp->write_seq)
        conn_start(c, end - n, tcp->write_seq);
    if (c->is_unstarted)
        return;
    if (c->out.state == HTTP_BODY)
        conn_catch_up(c, tcp->write_seq);
    http_seek(&c->in, conn_place(&c->in, end - n));
    if (place->bytes && !(flags & MSG_TRUNC))
        received_feed_bytes(c, place->bytes, n);
    else if (place->vectors && !(flags & MSG_TRUNC))
        received_feed_vectors(c, place->vectors, n);
    http_seek(&c->in, conn_place(&c->in, end));
    if (conn_first_request(c))
        worker_read(conn_first_request(c));
}

/* @return the buffers that were passed to the system call */
static struct received_place received_argument(void)
{
    struct pt_regs *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
    const char *argument = (const char *)ARCH_CALL_ARGUMENT_2(registers);
    struct user_msghdr message = {0};

    switch (ARCH_CALL_NUMBER(registers)) {
    case NR_read:
    case NR_recvfrom:
        return (struct received_place){.bytes = argument};
    case NR_readv:
        return (struct received_place){.vectors = (const struct iovec *)argument};
    case NR_recvmsg:
        bpf_probe_read_user(&message, sizeof(message), argument);
        return (struct received_place){.vectors = message.msg_iov};
    default:
        return (struct received_place){0};
    }
}

static void received_at_exit(struct sock *sk, struct msghdr *message, int flags, int n)
{
    struct connection *c = received_find(sk, flags, n);
    struct received_place place = {0};

    if (!c)
        return;
    place.bytes = received_bytes(&message->msg_iter, n);
    if (!place.bytes)
        place = received_argument();
    received_read(c, sk, &place, flags, n);
}

static void received_at_tracepoint(struct sock *sk, int flags, int n)
{
    struct connection *c = received_find(sk, flags, n);
    struct received_place place;

    if (!c)
        return;
    place = received_argument();
    received_read(c, sk, &place, flags, n);
}
