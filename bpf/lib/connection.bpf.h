/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Connections, and the order of their requests. This fragment owns what is kept with each
 * socket, the map of sockets, and the queue of those that are followed no longer.
 */

#include "lib/kernel.h"
#include "lib/network.h"
#include "lib/request.bpf.h"
#include "lib/worker.bpf.h"
#include "shared/http_stream.h"
#include "shared/request_energy.h"

#define CONNECTIONS_MAX 65536
#define PIPELINE_MAX 64 /* requests that may wait on one connection */
#define CHUNK 64
/* Steps for each call of a bpf_loop() callback. A callback costs a return, which is slow where
 * processors are mitigated (retpoline); more steps at once cost the verifier time. */
#define STEPS_AT_ONCE 4

#define LINE_MAX 48 /* "X-Energy-Score: ", 20 digits, line end */

/*
 * How far the bytes of one call have been read, and those of one message. They are kept
 * with the connection and not on the stack: Linux 6.1 takes what a loop finds on the stack
 * at first for what the loop will always find, and removes the branches that seem never to
 * be taken.
 */
struct received {
    const char *bytes; /* of the application */
    __u32 n;
    __u32 i;
    __u32 from; /* the chunk's first byte */
    __u32 to;
};

struct sent {
    __u32 guaranteed; /* bytes that the socket takes at once */
    __u32 limit;      /* bytes that are looked at */
    __u32 i;
    __u32 insert_at;
    __u32 event;
    bool insert;
};

struct connection {
    struct http_stream in, out;
    struct received received;
    struct sent sent;
    __u64 cookie;
    __u64 first;       /* the oldest request without a response; its number on this connection */
    __u64 next;        /* the number of the next request */
    bool is_unstarted; /* older than our programs: the next request that is read is the first */
    char chunk[CHUNK];
    char line[LINE_MAX];
};

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct connection);
} connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, CONNECTIONS_MAX);
    __type(key, __u64);
    __type(value, __u64);
} sockets SEC(".maps");

/* Sockets that are left alone from now on: user space takes them out of the map. */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, CONNECTIONS_MAX);
    __type(value, __u64);
} abandoned SEC(".maps");

/* Cookies count up; 2^20 requests later a number may come again. */
static __u64 conn_request_id(const struct connection *c, __u64 number)
{
    return c->cookie << 20 | (number & 0xfffff);
}

/* @return the place in the stream that a TCP sequence number near its position stands for */
static __u64 conn_place(const struct http_stream *s, __u32 sequence)
{
    return s->position + (__s64)(__s32)(sequence - (__u32)s->position);
}

static void conn_start(struct connection *c, __u32 received, __u32 sent)
{
    c->in.position = received;
    c->out.position = sent;
    c->out.is_response = 1;
    c->is_unstarted = false;
}

/* @return the oldest request without a response, or 0 */
static __u64 conn_first_request(const struct connection *c)
{
    return c->first < c->next ? conn_request_id(c, c->first) : 0;
}

/* A reader may come here at the same time as a writer: each number is ended by one of them. */
static void conn_end_first(struct connection *c, enum request_end end)
{
    __u64 number = c->first;
    struct request *request;

    if (number >= c->next || !__sync_bool_compare_and_swap(&c->first, number, number + 1))
        return;
    request = request_find(conn_request_id(c, number));
    if (request)
        request_end(request, end);
}

static void conn_end_response(struct connection *c)
{
    struct request *request = request_find(conn_first_request(c));

    if (!request)
        return;
    request->status = c->out.status;
    conn_end_first(c, REQUEST_ANSWERED);
}

static long conn_abandon_first(__u32 i, struct connection **context)
{
    struct connection *c = *context;

    if (c->first >= c->next)
        return 1;
    conn_end_first(c, c->out.state == HTTP_LOST ? REQUEST_ABANDONED : REQUEST_CLOSED);
    return 0;
}

/* Ends all requests that wait for a response: the connection is lost, or closed. */
static void conn_abandon_requests(struct connection *c)
{
    if (c->out.state == HTTP_UNTIL_CLOSE)
        conn_end_response(c);
    bpf_loop(PIPELINE_MAX, conn_abandon_first, &c, 0);
}

/* Leaves a connection alone from now on. */
static void conn_abandon(struct connection *c)
{
    conn_abandon_requests(c);
    bpf_map_push_elem(&abandoned, &c->cookie, BPF_ANY);
}

/* Notes how far the stream of responses got; the end of a body may have gone by unseen. */
static void conn_catch_up(struct connection *c, __u32 sequence)
{
    struct http_stream *out = &c->out;

    http_seek(out, conn_place(out, sequence));
    if (out->state == HTTP_BODY && out->position == out->body_end && http_skip(out, 0) == HTTP_END)
        conn_end_response(c);
}

static void conn_close(struct sock *sk)
{
    struct connection *c = bpf_sk_storage_get(&connections, sk, NULL, 0);

    if (!c)
        return;
    if (c->out.state == HTTP_BODY)
        conn_catch_up(c, BPF_CORE_READ((struct tcp_sock *)sk, snd_nxt));
    conn_abandon_requests(c);
}
