/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* What is known of a connection, and the order of its requests. A part of request_energy.bpf.c. */

#include "request_binding.h"

#define SOCKETS_MAX 65536
#define PIPELINE_MAX 64 /* requests that may wait on one connection */
#define CHUNK 64
/* Returns are dear where processors are mitigated; the verifier goes through all of it. */
#define STEPS_AT_ONCE 4

#define LINE_MAX 48 /* "X-Energy-Score: ", 20 digits, line end */

/*
 * How far the bytes of one call are read, and of one message. Here and not on
 * the stack: Linux 6.1 takes what a loop finds there at first for what it will
 * always find, and removes the branches that seem never to be taken.
 */
struct received {
    const char *bytes; /* of the application */
    __u32 n;
    __u32 i;
    __u32 from; /* the chunk's first byte */
    __u32 to;
};

struct sent {
    __u32 sure;  /* bytes that the socket takes at once */
    __u32 limit; /* of what is looked at */
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
    bool is_unstarted; /* older than us: the next request that is read is the first */
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
    __uint(max_entries, SOCKETS_MAX);
    __type(key, __u64);
    __type(value, __u64);
} sockets SEC(".maps");

/* Sockets that are left alone from now on: user space takes them out of the map. */
struct {
    __uint(type, BPF_MAP_TYPE_QUEUE);
    __uint(max_entries, SOCKETS_MAX);
    __type(value, __u64);
} left SEC(".maps");

/* Cookies count up; 2^20 requests later a number may come again. */
static __u64 id_of(const struct connection *c, __u64 number)
{
    return c->cookie << 20 | (number & 0xfffff);
}

static __u64 place_of(const struct http_stream *s, __u32 sequence)
{
    return s->position + (__s64)(__s32)(sequence - (__u32)s->position);
}

static void start(struct connection *c, __u32 received, __u32 sent)
{
    c->in.position = received;
    c->out.position = sent;
    c->out.is_response = 1;
    c->is_unstarted = false;
}

static __u64 first_request(const struct connection *c)
{
    return c->first < c->next ? id_of(c, c->first) : 0;
}

/* A reader may come here beside a writer: each number is ended by one of them. */
static void end_first(struct connection *c, enum request_end end)
{
    __u64 number = c->first;
    struct request *request;

    if (number >= c->next || !__sync_bool_compare_and_swap(&c->first, number, number + 1))
        return;
    request = find_request(id_of(c, number));
    if (request)
        end_request(request, end);
}

static void end_response(struct connection *c)
{
    struct request *request = find_request(first_request(c));

    if (!request)
        return;
    request->status = c->out.status;
    end_first(c, REQUEST_ANSWERED);
}

static long leave_request(__u32 i, struct connection **context)
{
    struct connection *c = *context;

    if (c->first >= c->next)
        return 1;
    end_first(c, c->out.state == HTTP_LOST ? REQUEST_LEFT : REQUEST_CLOSED);
    return 0;
}

static void leave_requests(struct connection *c)
{
    if (c->out.state == HTTP_UNTIL_CLOSE)
        end_response(c);
    bpf_loop(PIPELINE_MAX, leave_request, &c, 0);
}

/* Takes in how far the stream of responses got; a body's end may have gone by unseen. */
static void settle(struct connection *c, __u32 sequence)
{
    struct http_stream *out = &c->out;

    http_seek(out, place_of(out, sequence));
    if (out->state == HTTP_BODY && out->position == out->body_end && http_skip(out, 0) == HTTP_END)
        end_response(c);
}
