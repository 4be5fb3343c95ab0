/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Hardware counters, which user space opens as perf events. */

#include "lib/kernel.h"

/* One perf event for each CPU. User space sets how many CPUs there are. */
#define COUNTER_MAP(name)                                                                          \
    struct {                                                                                       \
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);                                               \
        __uint(max_entries, 1);                                                                    \
        __type(key, __u32);                                                                        \
        __type(value, __u32);                                                                      \
    } name SEC(".maps")

/* @return the value of this CPU's counter, or 0: it does not count now */
static __u64 counter_read(void *map)
{
    struct bpf_perf_event_value value = {0};

    if (bpf_perf_event_read_value(map, BPF_F_CURRENT_CPU, &value, sizeof(value)) < 0)
        return 0;
    return value.counter;
}

/* Totals only grow: one that seems to fall was reset, and counts as no growth. */
static __u64 counter_growth(__u64 now, __u64 before)
{
    return now > before ? now - before : 0;
}
