/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/cpu_busy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "host/proc_text.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"

/* CONFIG_NR_CPUS of Debian's kernel. */
#define CPUS_MAX 8192
#define STAT_TEXT_MAX (16 << 20)

struct cpu {
    bool online;
    uint64_t since_ns;   /* when it was first seen online */
    uint64_t base_ticks; /* idle + steal then */
    uint64_t before_ns;  /* busy time until then */
    uint64_t busy_ns;
};

struct cpu_busy {
    int proc_fd;
    uint64_t tick_ns;
    size_t n;
    size_t online;
    uint64_t arrivals;
    struct cpu cpus[CPUS_MAX];
    struct proc_cpu lines[CPUS_MAX];
};

int cpu_busy_new(struct cpu_busy **ret, const char *proc_root)
{
    _cleanup_free_ struct cpu_busy *busy = calloc(1, sizeof(*busy));
    int r;

    if (!busy)
        return -ENOMEM;
    busy->tick_ns = NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK);
    busy->proc_fd = open(proc_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (busy->proc_fd < 0) {
        r = -errno;
    } else {
        r = cpu_busy_update(busy, now_ns());
        if (r < 0)
            close(busy->proc_fd);
    }
    if (r < 0) {
        log_error("cannot read CPU times", F_STRING("directory", proc_root),
                  F_STRING("file", "stat"), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(busy);
    return 0;
}

struct cpu_busy *cpu_busy_free(struct cpu_busy *busy)
{
    if (busy) {
        close(busy->proc_fd);
        free(busy);
    }
    return NULL;
}

static void update_cpu(struct cpu *cpu, uint64_t idle_ticks, uint64_t tick_ns, uint64_t time_ns)
{
    uint64_t elapsed_ns, idle_ns;

    if (!cpu->online) {
        cpu->online = true;
        cpu->since_ns = time_ns;
        cpu->base_ticks = idle_ticks;
        cpu->before_ns = cpu->busy_ns;
        return;
    }
    elapsed_ns = time_ns - cpu->since_ns;
    /* iowait may step back a little when a task migrates (proc(5)). */
    idle_ns = idle_ticks > cpu->base_ticks ? (idle_ticks - cpu->base_ticks) * tick_ns : 0;
    if (elapsed_ns > idle_ns && cpu->before_ns + elapsed_ns - idle_ns > cpu->busy_ns)
        cpu->busy_ns = cpu->before_ns + elapsed_ns - idle_ns;
}

int cpu_busy_update(struct cpu_busy *busy, uint64_t time_ns)
{
    _cleanup_free_ char *text = NULL;
    size_t length, n, line = 0;
    int r;

    r = read_file_full(busy->proc_fd, "stat", STAT_TEXT_MAX, &text, &length);
    if (r < 0)
        return r;
    r = parse_proc_cpus(text, length, busy->lines, CPUS_MAX, &n);
    if (r < 0)
        return r;
    busy->online = n;
    for (size_t i = 0; i < n; i++)
        if (busy->lines[i].cpu >= busy->n)
            busy->n = busy->lines[i].cpu + 1;
    for (size_t i = 0; i < busy->n; i++) {
        const struct proc_cpu *now = line < n ? &busy->lines[line] : NULL;

        if (!now || now->cpu != i) {
            busy->cpus[i].online = false;
            continue;
        }
        busy->arrivals += !busy->cpus[i].online;
        update_cpu(&busy->cpus[i], now->idle_ticks + now->steal_ticks, busy->tick_ns, time_ns);
        line++;
    }
    return 0;
}

/* The saved form of a CPU. */
struct saved_cpu {
    uint64_t online;
    uint64_t since_ns;
    uint64_t base_ticks;
    uint64_t before_ns;
    uint64_t busy_ns;
};

int cpu_busy_save(const struct cpu_busy *busy, struct buffer *ret)
{
    uint64_t n = busy->n;
    int r = buffer_append(ret, &n, sizeof(n));

    for (size_t i = 0; i < busy->n && r == 0; i++) {
        const struct cpu *cpu = &busy->cpus[i];

        r = buffer_append(ret,
                          &(struct saved_cpu){cpu->online, cpu->since_ns, cpu->base_ticks,
                                              cpu->before_ns, cpu->busy_ns},
                          sizeof(struct saved_cpu));
    }
    return r;
}

static void restore_cpu(struct cpu *cpu, const struct saved_cpu *saved)
{
    cpu->busy_ns = saved->busy_ns;
    if (cpu->online && saved->online) {
        cpu->since_ns = saved->since_ns;
        cpu->base_ticks = saved->base_ticks;
        cpu->before_ns = saved->before_ns;
    } else {
        cpu->before_ns = saved->busy_ns;
    }
}

int cpu_busy_restore(struct cpu_busy *busy, struct bytes *bytes, uint64_t time_ns)
{
    const uint64_t *n = bytes_take(bytes, 1, sizeof(*n));
    const struct saved_cpu *cpus = n ? bytes_take(bytes, *n, sizeof(*cpus)) : NULL;

    if (!cpus || *n > CPUS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < *n; i++)
        if (cpus[i].since_ns > time_ns || cpus[i].before_ns > cpus[i].busy_ns ||
            cpus[i].busy_ns > time_ns)
            return -EBADMSG;
    for (size_t i = 0; i < *n; i++)
        restore_cpu(&busy->cpus[i], &cpus[i]);
    if (*n > busy->n)
        busy->n = *n;
    return 0;
}

size_t cpu_busy_count(const struct cpu_busy *busy)
{
    return busy->n;
}

size_t cpu_busy_online(const struct cpu_busy *busy)
{
    return busy->online;
}

uint64_t cpu_busy_arrivals(const struct cpu_busy *busy)
{
    return busy->arrivals;
}

uint64_t cpu_busy_ns(const struct cpu_busy *busy, size_t cpu)
{
    assert(cpu < CPUS_MAX);
    return busy->cpus[cpu].busy_ns;
}
