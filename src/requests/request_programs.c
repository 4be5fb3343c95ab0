/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/request_programs.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/cpu_counters.h"
#include "request_energy.skel.h"
#include "requests/fionread_probe.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"

#define ALL_COUNTERS ((1u << REQUEST_COUNTERS) - 1)

struct request_programs {
    struct request_energy *skeleton;
    struct request_cpu *cpus;
    size_t n_cpus;
    struct cpu_counters *counters;
    struct ring_buffer *events;
    bool watches_calls; /* true also after attaching failed: tried once */
    bool wakes_readers; /* see bpf/lib/fionread.bpf.h */
    uint64_t partial_reads;
    void (*on_request)(const struct request *request, void *userdata); /* while events are taken */
    void *userdata;
};

DEFINE_CLEANUP(struct request_programs *, request_programs_free);
DEFINE_CLEANUP(struct bpf_link *, bpf_link__destroy);

static int on_ended(void *context, void *data, size_t size)
{
    struct request_programs *programs = context;

    programs->on_request(data, programs->userdata);
    return 0;
}

/* libbpf's first message of a failure: which program the kernel refused, and why. */
static char first_warning[256];

/* The verifier's log comes as one message of many lines. */
static int print_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
    _cleanup_free_ char *text = NULL;
    char *rest;

    if (vasprintf(&text, format, arguments) < 0)
        return -ENOMEM;
    if (level == LIBBPF_WARN && !first_warning[0])
        snprintf(first_warning, sizeof(first_warning), "%.*s", (int)strcspn(text, "\n"), text);
    rest = text;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
        if (*line)
            log_debug("libbpf", F_STRING("message", line));
    return 0;
}

/* Hardware counters, frequencies. */

static const struct cpu_counter counter_kinds[REQUEST_COUNTERS] = {
    [REQUEST_CYCLES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    [REQUEST_INSTRUCTIONS] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    [REQUEST_CACHE_MISSES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
};

static void enter_counters(const struct request_programs *programs)
{
    const struct bpf_map *maps[REQUEST_COUNTERS] = {
        [REQUEST_CYCLES] = programs->skeleton->maps.cycles,
        [REQUEST_INSTRUCTIONS] = programs->skeleton->maps.instructions,
        [REQUEST_CACHE_MISSES] = programs->skeleton->maps.cache_misses,
    };

    for (size_t i = 0; i < REQUEST_COUNTERS; i++)
        for (uint32_t cpu = 0; cpu < programs->n_cpus; cpu++) {
            int fd = cpu_counters_fd(programs->counters, i, cpu);

            if (fd >= 0)
                bpf_map_update_elem(bpf_map__fd(maps[i]), &cpu, &fd, BPF_ANY);
        }
}

/* Enters the frequencies of now; the kernel reports changes. */
static void enter_frequencies(const struct request_programs *programs)
{
    int fd = bpf_program__fd(programs->skeleton->progs.change_frequency);

    for (size_t cpu = 0; cpu < programs->n_cpus; cpu++) {
        char path[128];
        uint64_t khz, arguments[2];
        LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = arguments,
                    .ctx_size_in = sizeof(arguments), .flags = BPF_F_TEST_RUN_ON_CPU,
                    .cpu = (uint32_t)cpu);

        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%zu/cpufreq/scaling_cur_freq",
                 cpu);
        if (read_sysfs_u64(AT_FDCWD, path, &khz) < 0)
            continue; /* the CPU has none, as in most virtual machines */
        arguments[0] = khz;
        arguments[1] = cpu;
        bpf_prog_test_run_opts(fd, &options);
    }
}

void request_programs_update_cpus(struct request_programs *programs)
{
    cpu_counters_reopen(programs->counters);
    enter_counters(programs);
    enter_frequencies(programs);
}

/* Programs. */

/* @param has_fexit  which of the two ways to see a read to try */
static int open_skeleton(struct request_programs *programs, unsigned counts, bool has_fexit)
{
    struct request_energy *skeleton = request_energy__open();
    struct bpf_map *per_cpu[4];
    int r = 0;

    if (!skeleton)
        return -ENOMEM;
    programs->skeleton = skeleton;
    per_cpu[0] = skeleton->maps.cpus;
    per_cpu[1] = skeleton->maps.cycles;
    per_cpu[2] = skeleton->maps.instructions;
    per_cpu[3] = skeleton->maps.cache_misses;
    for (size_t i = 0; i < ARRAY_SIZE(per_cpu) && r == 0; i++)
        r = bpf_map__set_max_entries(per_cpu[i], (uint32_t)programs->n_cpus);
    if (r < 0)
        return r;
    skeleton->rodata->counters_in_use = counts & ALL_COUNTERS;
    bpf_program__set_autoload(skeleton->progs.read_at_exit, has_fexit);
    bpf_program__set_autoload(skeleton->progs.read_at_tracepoint, !has_fexit);
    bpf_program__set_autoload(skeleton->progs.wake_readers, programs->wakes_readers);
    bpf_program__set_autoload(skeleton->progs.count_wakeup, counts & REQUEST_WAKEUPS);
    bpf_program__set_autoload(skeleton->progs.count_migration, counts & REQUEST_MIGRATIONS);
    /* Attached when it is needed; not every kernel has it. */
    bpf_program__set_autoattach(skeleton->progs.enter_call, false);
    /* Run by user space, or attached to a map or to cgroups. */
    bpf_program__set_autoattach(skeleton->progs.close_running_slice, false);
    bpf_program__set_autoattach(skeleton->progs.rewrite_response, false);
    bpf_program__set_autoattach(skeleton->progs.follow_connection, false);
    bpf_program__set_autoattach(skeleton->progs.follow_older_connections, false);
    bpf_program__set_autoattach(skeleton->progs.wake_readers, false);
    r = request_energy__load(skeleton);
    return r < 0 ? r : request_energy__attach(skeleton);
}

static void close_skeleton(struct request_programs *programs)
{
    request_energy__destroy(programs->skeleton);
    programs->skeleton = NULL;
}

static const char *missing_feature(int error)
{
    if (error == -EPERM || error == -EACCES)
        return "permission";
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
        return "type information (CONFIG_DEBUG_INFO_BTF)";
    return "fexit on tcp_recvmsg, or the tracepoint sock_recv_length (Linux 6.3)";
}

static int load(struct request_programs *programs, unsigned counts)
{
    int r = open_skeleton(programs, counts, true);

    if (r >= 0)
        return 0;
    close_skeleton(programs);
    log_debug("requests are not read at the return of tcp_recvmsg", F_ERROR(r));
    first_warning[0] = '\0';
    r = open_skeleton(programs, counts, false);
    if (r < 0)
        log_error("the kernel does not take the programs that measure requests", F_ERROR(r),
                  F_STRING("missing", missing_feature(r)), F_STRING("reason", first_warning));
    return r;
}

static int map_cpus(struct request_programs *programs)
{
    void *cpus = mmap(NULL, programs->n_cpus * sizeof(*programs->cpus), PROT_READ | PROT_WRITE,
                      MAP_SHARED, bpf_map__fd(programs->skeleton->maps.cpus), 0);

    if (cpus == MAP_FAILED)
        return -errno;
    programs->cpus = cpus;
    programs->events =
        ring_buffer__new(bpf_map__fd(programs->skeleton->maps.events), on_ended, programs, NULL);
    return programs->events ? 0 : -errno;
}

int request_programs_new(struct request_programs **ret, unsigned counts)
{
    _cleanup_(cleanup_request_programs_free) struct request_programs *programs =
        calloc(1, sizeof(*programs));
    unsigned in_use, missing;
    int r;

    if (!programs)
        return -ENOMEM;
    libbpf_set_print(print_libbpf);
    r = libbpf_num_possible_cpus();
    if (r < 0)
        return r;
    programs->n_cpus = (size_t)r;
    r = cpu_counters_new(&programs->counters, counter_kinds, REQUEST_COUNTERS, programs->n_cpus,
                         &in_use);
    if (r < 0)
        return r;
    missing = counts & ALL_COUNTERS & ~in_use;
    if (missing)
        log_warning("hardware counters are not available: their weights have no effect",
                    F_UINT("mask", missing));
    programs->wakes_readers = fionread_is_broken() > 0;
    if (programs->wakes_readers)
        log_info("this kernel answers FIONREAD wrongly on connections that are followed: "
                 "requests longer than a server's buffer take up to 0.1 s more");
    r = load(programs, counts & ~missing);
    if (r == 0)
        r = map_cpus(programs);
    if (r == 0)
        r = bpf_prog_attach(bpf_program__fd(programs->skeleton->progs.rewrite_response),
                            bpf_map__fd(programs->skeleton->maps.sockets), BPF_SK_MSG_VERDICT, 0);
    if (r < 0)
        return r;
    enter_counters(programs);
    enter_frequencies(programs);
    *ret = TAKE_PTR(programs);
    return 0;
}

struct request_programs *request_programs_free(struct request_programs *programs)
{
    if (programs) {
        ring_buffer__free(programs->events);
        if (programs->cpus)
            munmap(programs->cpus, programs->n_cpus * sizeof(*programs->cpus));
        request_energy__destroy(programs->skeleton);
        cpu_counters_free(programs->counters);
        free(programs);
    }
    return NULL;
}

void request_programs_set(struct request_programs *programs,
                          const struct request_settings *settings)
{
    programs->skeleton->bss->settings = *settings;
}

int request_programs_set_frequency(struct request_programs *programs, uint32_t khz, uint64_t weight)
{
    const struct request_frequency frequency = {.weight = weight};

    assert(khz > 0);
    return bpf_map_update_elem(bpf_map__fd(programs->skeleton->maps.frequencies), &khz, &frequency,
                               BPF_ANY);
}

size_t request_programs_read_frequencies(const struct request_programs *programs, size_t n,
                                         struct request_frequency_time *ret)
{
    int fd = bpf_map__fd(programs->skeleton->maps.frequencies);
    const uint32_t *former = NULL;
    uint32_t khz;
    size_t i = 0;

    while (i < n && bpf_map_get_next_key(fd, former, &khz) == 0) {
        struct request_frequency frequency;

        if (bpf_map_lookup_elem(fd, &khz, &frequency) == 0 && frequency.runtime_ns)
            ret[i++] = (struct request_frequency_time){khz, frequency.runtime_ns};
        former = &khz;
    }
    return i;
}

/* The kernel runs the program on every socket while its output is read, which is empty. */
static int run_on_sockets(const struct bpf_program *program)
{
    _cleanup_(cleanup_bpf_link__destroy) struct bpf_link *link =
        bpf_program__attach_iter(program, NULL);
    _cleanup_close_ int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -errno;
    char nothing[64];
    ssize_t n;

    if (fd < 0)
        return fd;
    do
        n = read(fd, nothing, sizeof(nothing));
    while (n > 0 || (n < 0 && errno == EAGAIN));
    return n < 0 ? -errno : 0;
}

/* The ports are valid during one search for older connections: later, others are listened on. */
static void forget_listening(const struct request_programs *programs)
{
    int fd = bpf_map__fd(programs->skeleton->maps.listening);
    uint16_t port;

    while (bpf_map_get_next_key(fd, NULL, &port) == 0 && bpf_map_delete_elem(fd, &port) == 0)
        ;
}

static int follow_older(const struct request_programs *programs, int cgroup_fd)
{
    struct stat status;
    int r;

    if (fstat(cgroup_fd, &status) < 0)
        return -errno;
    programs->skeleton->bss->older_cgroup = status.st_ino;
    r = run_on_sockets(programs->skeleton->progs.follow_older_connections);
    forget_listening(programs);
    return r;
}

int request_programs_watch(struct request_programs *programs, int fd, int *ret_link)
{
    int link = bpf_link_create(bpf_program__fd(programs->skeleton->progs.follow_connection), fd,
                               BPF_CGROUP_SOCK_OPS, NULL);
    int r;

    if (link < 0)
        return link;
    r = follow_older(programs, fd);
    if (r < 0)
        log_warning("connections that exist already are not followed", F_ERROR(r));
    *ret_link = link;
    return 0;
}

void request_programs_unwatch(int link)
{
    close(link);
}

static void close_slices(const struct request_programs *programs)
{
    int fd = bpf_program__fd(programs->skeleton->progs.close_running_slice);

    for (size_t cpu = 0; cpu < programs->n_cpus; cpu++) {
        LIBBPF_OPTS(bpf_test_run_opts, options, .flags = BPF_F_TEST_RUN_ON_CPU,
                    .cpu = (uint32_t)cpu);

        /* The call fails for a CPU that is offline: nothing runs there. */
        bpf_prog_test_run_opts(fd, &options);
    }
}

void request_programs_read(struct request_programs *programs, struct request_totals *ret)
{
    struct request_totals totals = {
        .events_lost = programs->skeleton->bss->events_lost,
        .requests_dropped = programs->skeleton->bss->requests_dropped,
        .foreign = programs->skeleton->bss->foreign,
    };

    close_slices(programs);
    for (size_t i = 0; i < programs->n_cpus; i++) {
        const volatile struct request_cpu *cpu = &programs->cpus[i];

        totals.work += cpu->work;
        totals.bound_work += cpu->bound_work;
        totals.bound_energy += cpu->bound_energy;
        totals.background_energy += cpu->background_energy;
        totals.runtime_ns += cpu->runtime_ns;
        totals.wakeups += cpu->wakeups;
        totals.migrations += cpu->migrations;
        for (size_t j = 0; j < REQUEST_COUNTERS; j++)
            totals.counted[j] += cpu->counted[j];
    }
    *ret = totals;
}

/* What abandoned connections send goes its usual way again once they are out of the map. */
static void release_abandoned(const struct request_programs *programs)
{
    int sockets = bpf_map__fd(programs->skeleton->maps.sockets);
    uint64_t cookie;

    while (bpf_map_lookup_and_delete_elem(bpf_map__fd(programs->skeleton->maps.abandoned), NULL,
                                          &cookie) == 0)
        bpf_map_delete_elem(sockets, &cookie);
}

/* Attaching is tried once. */
static void watch_calls(struct request_programs *programs)
{
    struct request_energy *skeleton = programs->skeleton;

    if (programs->watches_calls || !skeleton->bss->interleaves)
        return;
    programs->watches_calls = true;
    skeleton->links.enter_call = bpf_program__attach(skeleton->progs.enter_call);
    if (skeleton->links.enter_call)
        log_debug("a server does several requests at a time: system calls are watched");
    else
        log_warning("system calls are not seen: what a server does between requests counts as "
                    "the last request's",
                    F_ERROR(-errno));
}

/* On a kernel that lets readers stop too early, after reads that left something. */
static void wake_readers(struct request_programs *programs)
{
    uint64_t partial_reads = programs->skeleton->bss->partial_reads;

    if (!programs->wakes_readers || partial_reads == programs->partial_reads)
        return;
    programs->partial_reads = partial_reads;
    run_on_sockets(programs->skeleton->progs.wake_readers);
}

int request_programs_take_ended(struct request_programs *programs,
                                void (*on_request)(const struct request *request, void *userdata),
                                void *userdata)
{
    assert(on_request);
    release_abandoned(programs);
    watch_calls(programs);
    wake_readers(programs);
    programs->on_request = on_request;
    programs->userdata = userdata;
    return ring_buffer__consume(programs->events);
}
