/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Responses, as the application sends them. */

#include "lib/connection.bpf.h"
#include "lib/kernel.h"
#include "lib/network.h"
#include "lib/worker.bpf.h"
#include "shared/http_words.h"

/* Bytes of a message that are looked at in one go. */
#define HEAD_WINDOW 8192
/* Bytes of a socket's buffer that a segment takes beside its own, at most. */
#define SEGMENT_COST 4096
#define SEGMENT_MAX 16384
/* Bytes of a message that are copied to make it one piece after it grew. */
#define WHOLE_MAX 16384

struct sent_context {
    struct sk_msg_md *message;
    struct connection *c;
};

/* As received_feed(). */
static __always_inline bool sent_feed(struct sent_context *context)
{
    struct http_stream *out = &context->c->out;
    struct sent *s = &context->c->sent;
    char *data, *end;
    __u32 i = s->i, length;
    __u8 c;

    if (http_is_in_body(out)) {
        length = http_body_bytes(out, s->limit - i);
        s->i += length;
        s->event = http_skip(out, length);
        return s->event != HTTP_MORE || s->i >= s->limit;
    }
    if (http_takes_field(out) && !s->insert && i + 1 + LINE_MAX > s->guaranteed) {
        if (i)
            return true;
        /* Byte by byte: soon there is no room at all, and after that there is enough. */
        s->limit = 1;
    }
    if (i >= s->limit)
        return true;
    if (i >= HEAD_WINDOW)
        return true;
    data = (void *)(long)context->message->data;
    end = (void *)(long)context->message->data_end;
    data += i;
    if (i + sizeof(__u64) <= s->limit && data + sizeof(__u64) <= end) {
        length = http_word(out, *(__u64 *)data);
        s->i += length;
        if (length)
            return false;
    }
    if (data + 1 > end)
        return true;
    c = *data;
    s->event = http_step(out, c);
    s->i = i + 1;
    if (s->event == HTTP_FORGED)
        *data = HTTP_RENAMED;
    else if (s->event == HTTP_INSERT && !s->insert && i + 1 + LINE_MAX <= s->guaranteed) {
        s->insert_at = i;
        s->insert = true;
        if (s->limit > s->guaranteed - LINE_MAX)
            s->limit = s->guaranteed - LINE_MAX;
    }
    return s->event == HTTP_END || s->event == HTTP_BAD;
}

static long sent_step(__u32 index, struct sent_context *context)
{
    for (int i = 0; i < STEPS_AT_ONCE; i++) {
        if (sent_feed(context))
            return 1;
        barrier(); /* else the verifier follows what the step before left in registers */
    }
    return 0;
}

/* Writes the field's line with a number. @return its length */
static __u32 sent_format_line(char *line, __u64 number)
{
    const char name[] = HTTP_SCORE_NAME ": ";
    __u32 length = sizeof(name) - 1;
    char digits[20];
    unsigned n = 0;

    __builtin_memcpy(line, name, sizeof(name) - 1);
    for (unsigned i = 0; i < sizeof(digits); i++) {
        digits[sizeof(digits) - 1 - i] = '0' + number % 10;
        number /= 10;
        n++;
        if (!number)
            break;
    }
    for (unsigned i = 0; i < sizeof(digits); i++)
        if (i + n >= sizeof(digits) && length < LINE_MAX - 2)
            line[length++] = digits[i];
    if (length > LINE_MAX - 2)
        return 0;
    line[length] = '\r';
    line[length + 1] = '\n';
    return length + 2;
}

/* @return how many bytes may still wait to be sent, by the limit that is set for that */
static __s64 sent_room(const struct tcp_sock *tcp)
{
    const struct net *net = ((const struct sock *)tcp)->__sk_common.skc_net.net;
    __u32 limit = tcp->notsent_lowat ?: (__u32)net->ipv4.sysctl_tcp_notsent_lowat;

    return (__s64)limit - (__s32)(tcp->write_seq - tcp->snd_nxt);
}

/*
 * How many bytes the socket is guaranteed to take at once. It asks for room when it begins
 * a segment. Bytes that fit into the room and into one segment need only one; for more, the
 * segments' own cost is allowed for.
 */
static __u32 sent_guaranteed(const struct tcp_sock *tcp)
{
    const struct sock *sk = (const struct sock *)tcp;
    __s64 room = sk->sk_sndbuf - sk->sk_wmem_queued, unsent = sent_room(tcp);
    __u32 one_segment, several_segments = 0;

    if (unsent < room)
        room = unsent;
    if (room <= 0)
        return 0;
    one_segment = room < SEGMENT_MAX ? room : SEGMENT_MAX;
    if (one_segment > tcp->mss_cache)
        one_segment = tcp->mss_cache;
    if (room > SEGMENT_COST)
        several_segments = (__u32)(room - SEGMENT_COST) / 4;
    return one_segment > several_segments ? one_segment : several_segments;
}

/*
 * How many bytes to let pass although the socket may not take all of them. In a body it is
 * a part so small that the bytes which then go by unseen do not reach the body's end.
 */
static __u32 sent_unguaranteed(const struct http_stream *out)
{
    __u64 part = out->state == HTTP_BODY ? (out->body_end - out->position) / 64 : 0;

    return part < SEGMENT_MAX ? part + 1 : SEGMENT_MAX;
}

/* Writes eight bytes of the line at a time; the last ones overlap. */
static void sent_write_line(struct sk_msg_md *message, const struct connection *c, __u32 at,
                            __u32 length)
{
    __u64 last = length - sizeof(__u64);

    for (__u64 i = 0; i <= LINE_MAX - sizeof(__u64); i += sizeof(__u64)) {
        char *data = (void *)(long)message->data, *end = (void *)(long)message->data_end;
        __u64 from = i < last ? i : last, to;

        barrier_var(from); /* else the verifier forgets the comparisons */
        if (from > LINE_MAX - sizeof(__u64))
            return;
        to = at + from;
        barrier_var(to);
        if (to >= HEAD_WINDOW + LINE_MAX)
            return;
        data += to;
        if (data + sizeof(__u64) > end)
            return;
        *(__u64 *)data = *(__u64 *)(c->line + from);
    }
}

/* @return how much the message grew, or a negative errno: the message is beyond repair */
static int sent_insert_line(struct sk_msg_md *message, struct connection *c, __u64 id, __u32 at)
{
    struct request *request = request_find(id);
    struct request_cpu *cpu = work_this_cpu();
    __u32 size = message->size, length, whole;
    int r;

    /* No header until the first factor is known. */
    if (!request || !cpu || !settings.factor)
        return 0;
    worker_charge_running(cpu);
    request->header_uj = request->energy >> REQUEST_ENERGY_BITS;
    request->header_ns = bpf_ktime_get_ns();
    length = sent_format_line(c->line, request->header_uj);
    if (bpf_msg_push_data(message, at, length, 0) < 0)
        return 0;
    /* The message is in pieces now, and TCP may make a segment of each. */
    whole = size + length;
    if (whole > WHOLE_MAX || bpf_msg_pull_data(message, 0, whole, 0) < 0) {
        r = bpf_msg_pull_data(message, 0, at + length, 0);
        if (r < 0)
            return bpf_msg_pop_data(message, at, length, 0) < 0 ? r : 0;
    }
    sent_write_line(message, c, at, length);
    http_shift(&c->out, length);
    request->has_header = 1;
    return length;
}

/* Takes over the method of the request that is answered next. */
static void sent_begin_response(struct connection *c, __u64 id)
{
    const struct request *request;

    if (c->out.state != HTTP_START)
        return;
    request = request_find(id);
    if (request)
        c->out.method = request->method;
    else
        http_lose(&c->out); /* there was no request */
}

/*
 * With TCP_CORK a sender announces that more follows at once: nginx and Apache do so before the
 * head of a file. If the socket is guaranteed to take the whole file, its bytes need not be seen.
 * @return how many bytes are to pass unseen behind the message
 */
static __u32 sent_end_early(struct connection *c, const struct tcp_sock *tcp, __u32 size)
{
    const struct http_stream *out = &c->out;
    __u64 rest = out->body_end - out->position;

    if (out->state != HTTP_BODY || size + LINE_MAX + rest > c->sent.guaranteed ||
        !(BPF_CORE_READ_BITFIELD(tcp, nonagle) & TCP_NAGLE_CORK))
        return 0;
    rest = http_end_early(&c->out);
    if (rest)
        c->sent.event = HTTP_END;
    return rest;
}

/* Decides how far a message is looked at. */
static void sent_set_limit(struct connection *c, const struct tcp_sock *tcp, __u32 size)
{
    struct sent *s = &c->sent;

    *s = (struct sent){.limit = size, .guaranteed = sent_guaranteed(tcp)};
    if (c->out.state != HTTP_UNTIL_CLOSE && size > s->guaranteed)
        s->limit = s->guaranteed ?: sent_unguaranteed(&c->out);
    if (s->limit > size)
        s->limit = size;
}

/* @return the verdict */
static int sent_rewrite(struct sk_msg_md *message)
{
    struct sent_context context = {.message = message};
    __u32 size = message->size;
    __u32 window = message->size < HEAD_WINDOW ? message->size : HEAD_WINDOW;
    const struct tcp_sock *tcp;
    struct connection *c;
    __u64 id;
    __u32 unseen = 0;
    int grown = 0;

    bpf_msg_apply_bytes(message, 0); /* otherwise the last verdict on this message still holds */
    if (!message->sk)
        return SK_PASS;
    tcp = bpf_skc_to_tcp_sock(message->sk);
    if (!tcp)
        return SK_PASS;
    c = bpf_sk_storage_get(&connections, (void *)message->sk, NULL, 0);
    if (!c || c->is_unstarted || c->out.state == HTTP_LOST)
        return SK_PASS;
    conn_catch_up(c, tcp->write_seq);
    id = conn_first_request(c);
    sent_begin_response(c, id);
    if (id)
        worker_write(id);
    sent_set_limit(c, tcp, size);
    context.c = c;
    if (!http_is_in_body(&c->out) && message->data_end - message->data < window)
        bpf_msg_pull_data(message, 0, window, 0);
    bpf_loop(2 * HEAD_WINDOW, sent_step, &context, 0);
    if (c->sent.insert)
        grown = sent_insert_line(message, c, id, c->sent.insert_at);
    if (c->sent.i == size)
        unseen = sent_end_early(c, tcp, size);
    if (c->sent.event == HTTP_END) {
        worker_answered(id);
        conn_end_response(c);
    }
    if (c->out.state == HTTP_LOST)
        conn_abandon(c);
    else if (grown >= 0 && (c->sent.i < size || unseen))
        /* The rest is another response, or more of a head than is looked at in one go. */
        bpf_msg_apply_bytes(message, c->sent.i + grown + unseen);
    return grown < 0 ? SK_DROP : SK_PASS;
}
