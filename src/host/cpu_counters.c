/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/cpu_counters.h"

#include <assert.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct cpu_counters {
    const struct cpu_counter *counters;
    size_t n;
    size_t n_cpus;
    int *fds; /* n for each CPU; -1: not counted */
};

static int open_event(const struct cpu_counter *counter, size_t cpu)
{
    struct perf_event_attr attr = {
        .type = counter->type,
        .size = sizeof(attr),
        .config = counter->config,
        /* The event counts all the time or not at all: a share of a sampled count would be a guess.
         */
        .pinned = 1,
    };

    return (int)syscall(SYS_perf_event_open, &attr, -1, (int)cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static void close_all(struct cpu_counters *counters)
{
    for (size_t i = 0; i < counters->n * counters->n_cpus; i++)
        if (counters->fds[i] >= 0)
            close(counters->fds[i]);
}

static void open_all(struct cpu_counters *counters)
{
    for (size_t cpu = 0; cpu < counters->n_cpus; cpu++)
        for (size_t i = 0; i < counters->n; i++)
            counters->fds[cpu * counters->n + i] = open_event(&counters->counters[i], cpu);
}

int cpu_counters_new(struct cpu_counters **ret, const struct cpu_counter *counters, size_t n,
                     size_t n_cpus, unsigned *ret_in_use)
{
    struct cpu_counters *opened = calloc(1, sizeof(*opened));
    unsigned in_use = 0;

    if (!opened)
        return -ENOMEM;
    *opened = (struct cpu_counters){counters, n, n_cpus, calloc(n * n_cpus, sizeof(int))};
    if (!opened->fds) {
        free(opened);
        return -ENOMEM;
    }
    open_all(opened);
    for (size_t i = 0; i < n * n_cpus; i++)
        if (opened->fds[i] >= 0)
            in_use |= 1u << i % n;
    *ret = opened;
    *ret_in_use = in_use;
    return 0;
}

struct cpu_counters *cpu_counters_free(struct cpu_counters *counters)
{
    if (counters) {
        close_all(counters);
        free(counters->fds);
        free(counters);
    }
    return NULL;
}

void cpu_counters_reopen(struct cpu_counters *counters)
{
    close_all(counters);
    open_all(counters);
}

int cpu_counters_fd(const struct cpu_counters *counters, size_t counter, size_t cpu)
{
    assert(counter < counters->n && cpu < counters->n_cpus);
    return counters->fds[cpu * counters->n + counter];
}
