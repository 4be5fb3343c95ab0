/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest/request_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "request_energy.skel.h"
#include "util/cleanup.h"
#include "util/log.h"

struct request_programs {
    struct request_energy *skeleton;
    struct request_cpu *cpus;
    size_t n_cpus;
    struct ring_buffer *ended;
    void (*on_request)(const struct request *request, void *userdata); /* while they are taken */
    void *userdata;
};

DEFINE_CLEANUP(struct request_programs *, request_programs_free);

static int on_ended(void *context, void *data, size_t size)
{
    struct request_programs *programs = context;

    programs->on_request(data, programs->userdata);
    return 0;
}

/* Which of the two ways to see a read the kernel has. */
static int open_skeleton(struct request_programs *programs, unsigned counters, bool has_fexit)
{
    struct request_energy *skeleton = request_energy__open();
    struct bpf_map *per_cpu[4];
    int r = 0;

    if (!skeleton)
        return -errno;
    programs->skeleton = skeleton;
    per_cpu[0] = skeleton->maps.cpus;
    per_cpu[1] = skeleton->maps.cycles;
    per_cpu[2] = skeleton->maps.instructions;
    per_cpu[3] = skeleton->maps.cache_misses;
    for (size_t i = 0; i < sizeof(per_cpu) / sizeof(per_cpu[0]) && r == 0; i++)
        r = bpf_map__set_max_entries(per_cpu[i], (uint32_t)programs->n_cpus);
    if (r < 0)
        return r;
    skeleton->rodata->counters_in_use = counters;
    bpf_program__set_autoload(skeleton->progs.read_at_exit, has_fexit);
    bpf_program__set_autoload(skeleton->progs.read_at_tracepoint, !has_fexit);
    /* Run by hand, and attached to maps and cgroups. */
    bpf_program__set_autoattach(skeleton->progs.close_running_slice, false);
    bpf_program__set_autoattach(skeleton->progs.rewrite_response, false);
    bpf_program__set_autoattach(skeleton->progs.follow_connection, false);
    r = request_energy__load(skeleton);
    return r < 0 ? r : request_energy__attach(skeleton);
}

static void close_skeleton(struct request_programs *programs)
{
    request_energy__destroy(programs->skeleton);
    programs->skeleton = NULL;
}

static int load(struct request_programs *programs, unsigned counters)
{
    int r = open_skeleton(programs, counters, true);

    if (r >= 0)
        return 0;
    close_skeleton(programs);
    log_debug("requests are not read at the return of tcp_recvmsg", F_ERROR(r));
    r = open_skeleton(programs, counters, false);
    if (r < 0)
        log_error("the kernel does not take the programs that measure requests", F_ERROR(r));
    return r;
}

static int map_cpus(struct request_programs *programs)
{
    void *cpus = mmap(NULL, programs->n_cpus * sizeof(*programs->cpus), PROT_READ | PROT_WRITE,
                      MAP_SHARED, bpf_map__fd(programs->skeleton->maps.cpus), 0);

    if (cpus == MAP_FAILED)
        return -errno;
    programs->cpus = cpus;
    programs->ended =
        ring_buffer__new(bpf_map__fd(programs->skeleton->maps.ended), on_ended, programs, NULL);
    return programs->ended ? 0 : -errno;
}

int request_programs_new(struct request_programs **ret, unsigned counters)
{
    _cleanup_(cleanup_request_programs_free) struct request_programs *programs =
        calloc(1, sizeof(*programs));
    int r;

    if (!programs)
        return -ENOMEM;
    r = libbpf_num_possible_cpus();
    if (r < 0)
        return r;
    programs->n_cpus = (size_t)r;
    r = load(programs, counters);
    if (r == 0)
        r = map_cpus(programs);
    if (r == 0)
        r = bpf_prog_attach(bpf_program__fd(programs->skeleton->progs.rewrite_response),
                            bpf_map__fd(programs->skeleton->maps.sockets), BPF_SK_MSG_VERDICT, 0);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(programs);
    return 0;
}

struct request_programs *request_programs_free(struct request_programs *programs)
{
    if (programs) {
        ring_buffer__free(programs->ended);
        if (programs->cpus)
            munmap(programs->cpus, programs->n_cpus * sizeof(*programs->cpus));
        request_energy__destroy(programs->skeleton);
        free(programs);
    }
    return NULL;
}

void request_programs_set(struct request_programs *programs,
                          const struct request_settings *settings)
{
    programs->skeleton->bss->settings = *settings;
}

int request_programs_watch(struct request_programs *programs, int fd, int *ret_link)
{
    int link = bpf_link_create(bpf_program__fd(programs->skeleton->progs.follow_connection), fd,
                               BPF_CGROUP_SOCK_OPS, NULL);

    if (link < 0)
        return link;
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

        /* It fails for a CPU that is offline: nothing runs there. */
        bpf_prog_test_run_opts(fd, &options);
    }
}

void request_programs_read(struct request_programs *programs, struct request_totals *ret)
{
    struct request_totals totals = {
        .unheard = programs->skeleton->bss->unheard,
        .refused = programs->skeleton->bss->refused,
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

int request_programs_take_ended(struct request_programs *programs,
                                void (*on_request)(const struct request *request, void *userdata),
                                void *userdata)
{
    programs->on_request = on_request;
    programs->userdata = userdata;
    return ring_buffer__consume(programs->ended);
}
