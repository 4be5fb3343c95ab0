/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Requests, from the end of their head until the last work for them is done. This
 * fragment owns the map of requests and the ring through which user space gets those
 * that are over. Each request counts its references: the workers that are awake and
 * work for it.
 */

#include "lib/kernel.h"
#include "shared/request_energy.h"

/* Read by user space. */
__u64 events_lost = 0;      /* requests that were over while the ring was full */
__u64 requests_dropped = 0; /* requests for which the map had no room */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, __u64);
    __type(value, struct request);
} requests SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1024 * 1024);
} events SEC(".maps");

static struct request *request_find(__u64 id)
{
    return id ? bpf_map_lookup_elem(&requests, &id) : NULL;
}

static bool request_is_open(__u64 id)
{
    struct request *request = request_find(id);

    return request && request->end == REQUEST_OPEN;
}

static void request_report_if_over(struct request *request)
{
    __u64 id = request->id;
    struct request *copy;

    if (request->end == REQUEST_OPEN || request->references > 0)
        return;
    copy = bpf_ringbuf_reserve(&events, sizeof(*copy), 0);
    if (!copy) {
        if (bpf_map_delete_elem(&requests, &id) == 0)
            __sync_fetch_and_add(&events_lost, 1);
        return;
    }
    __builtin_memcpy(copy, request, sizeof(*copy));
    /* Two CPUs may come here at the same time; only one of them deletes the request. The scheduler
     * may call us with its locks held, so the ring must not wake its reader. */
    if (bpf_map_delete_elem(&requests, &id) == 0)
        bpf_ringbuf_submit(copy, BPF_RB_NO_WAKEUP);
    else
        bpf_ringbuf_discard(copy, BPF_RB_NO_WAKEUP);
}

/* Drops a reference. */
static void request_put(struct request *request)
{
    __sync_fetch_and_add(&request->references, -1);
    request_report_if_over(request);
}

static void request_put_id(__u64 id)
{
    struct request *request = request_find(id);

    if (request)
        request_put(request);
}

/* Takes a reference, to be dropped by request_put(). @return whether the request exists */
static bool request_get(__u64 id)
{
    struct request *request = request_find(id);

    if (!request)
        return false;
    __sync_fetch_and_add(&request->references, 1);
    if (request->id == id)
        return true;
    request_put(request); /* it was deleted, and another request took its place in the map */
    return false;
}

/* Holds a reference while `end` is set, so that the last request_put() sees it set. */
static void request_end(struct request *request, enum request_end end)
{
    if (request->end != REQUEST_OPEN)
        return;
    __sync_fetch_and_add(&request->references, 1);
    request->ended_ns = bpf_ktime_get_ns();
    request->end = end;
    request_put(request);
}
