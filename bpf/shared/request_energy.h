/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What request_energy.bpf.c and its loader share.
 *
 * Work is what tasks do: the weighed sum of CPU time and, where they are
 * counted, of wakeups, migrations and hardware counts. The weights decide the unit
 * of work; the kernel counts in 2^-10 of that unit. Energy is work times factor.
 */

#include <linux/types.h>

#include "shared/http_stream.h"

#define REQUEST_WEIGHT_BITS 20 /* weights are in units of 2^-20 */
#define REQUEST_WORK_BITS 10
#define REQUEST_FACTOR_BITS 40 /* a factor is microjoules per 2^-10 unit of work, times 2^40 */
#define REQUEST_ENERGY_BITS 20 /* energy is in 2^-20 of a microjoule */

/** Hardware counters. */
enum request_counter {
    REQUEST_CYCLES,
    REQUEST_INSTRUCTIONS,
    REQUEST_CACHE_MISSES,
    REQUEST_COUNTERS,
};

#define REQUEST_FREQUENCIES_MAX 512

/** Why a request ended. */
enum request_end {
    REQUEST_OPEN,
    REQUEST_ANSWERED,  /* all of the response was written */
    REQUEST_CLOSED,    /* the connection was closed first */
    REQUEST_ABANDONED, /* its connection is followed no longer */
};

/** A request, from the end of its head to the last work for it; then it goes through the ring. */
struct request {
    __u64 id;
    __u64 method;     /* see http_stream.h */
    __u64 arrived_ns; /* CLOCK_MONOTONIC, as all times */
    __u64 header_ns;  /* when the response's header was written; 0: it was not */
    __u64 ended_ns;
    __u64 runtime_ns;
    __u64 work;
    __u64 energy;
    __u64 header_uj;  /* as the header reports it */
    __s32 references; /* by workers that are awake and work for it */
    __u16 status;
    __u8 has_header; /* the field was written */
    __u8 end;
    __u8 path_length;
    __u8 unused[7];
    char path[HTTP_PATH_MAX];
};

/** Work not yet assigned to a request. */
struct request_effort {
    __u64 work;
    __u64 energy;
    __u64 runtime_ns;
};

/** A thread that ever worked for a request. */
struct request_worker {
    __u64 request; /* that it works for; 0: none */
    __u64 held;    /* that it holds a reference of: the same; 0 while it sleeps */
    __u64 is_uncertain;
    struct request_effort pending; /* counted as background until its request is known */
};

/** CPU time at one frequency, the key is in kHz. */
struct request_frequency {
    __u64 weight; /* of a nanosecond; 0: the default */
    __u64 runtime_ns;
};

/** One CPU, written by itself. Totals wrap. */
struct request_cpu {
    __u64 since_ns;     /* of the slice, or piece of it, that is not counted yet; 0: idle */
    __u64 request;      /* that the running task works for; 0: none */
    __u64 is_uncertain; /* whether it works for that one */
    __u64 is_worker;    /* the running task has a struct request_worker */
    __u32 khz;          /* 0: cpufreq does not say */
    __u64 counters[REQUEST_COUNTERS];

    __u64 work;
    __u64 bound_work;
    __u64 bound_energy;
    __u64 background_energy; /* can step back: some of it may turn out to be bound */
    __u64 runtime_ns;
    __u64 wakeups;
    __u64 migrations;
    __u64 counted[REQUEST_COUNTERS];
} __attribute__((aligned(64)));

/** What user space sets; may change at any time. */
struct request_settings {
    __u64 factor;
    __u64 runtime_weight;
    __u64 wakeup_weight;
    __u64 migration_weight;
    __u64 counter_weights[REQUEST_COUNTERS];
};
