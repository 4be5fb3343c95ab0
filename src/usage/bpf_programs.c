/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "vm_usage.skel.h"

_Static_assert(sizeof(struct vm_usage_cpu) % 64 == 0, "no two CPUs write to one cache line");

struct bpf_programs {
    struct vm_usage *skeleton;
    struct ring_buffer *news;
    void (*on_process)(pid_t pid, void *userdata); /* while news are taken */
    void *userdata;
    uint64_t unheard; /* as of the last look */
    struct vm_usage_cpu *cpus;
    size_t n_cpus;
    bool has_siblings;
    struct cpu_counters *counters;
    unsigned counters_in_use;
    size_t processes_max;
    size_t record_size;
    struct vm_usage_key *keys;
    char *records;
};

DEFINE_CLEANUP(struct bpf_programs *, bpf_programs_free);

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libbpf", F_STRING("message", text));
    return 0;
}

static int on_news(void *context, void *data, size_t size)
{
    struct bpf_programs *programs = context;

    programs->on_process((pid_t) * (const uint32_t *)data, programs->userdata);
    return 0;
}

static int load(struct bpf_programs *programs, const struct bpf_programs_config *config)
{
    struct vm_usage *skeleton = vm_usage__open();
    struct bpf_map *per_cpu[] = {NULL, NULL, NULL, NULL};
    int r = 0;

    if (!skeleton)
        return -errno;
    programs->skeleton = skeleton;
    per_cpu[0] = skeleton->maps.cpus;
    per_cpu[1] = skeleton->maps.cycles;
    per_cpu[2] = skeleton->maps.instructions;
    per_cpu[3] = skeleton->maps.llc_misses;
    for (size_t i = 0; i < sizeof(per_cpu) / sizeof(per_cpu[0]) && r == 0; i++)
        r = bpf_map__set_max_entries(per_cpu[i], (uint32_t)programs->n_cpus);
    if (r == 0)
        r = bpf_map__set_max_entries(skeleton->maps.processes, (uint32_t)config->processes_max);
    if (r == 0)
        r = bpf_map__set_value_size(skeleton->maps.processes, (uint32_t)programs->record_size);
    if (r < 0)
        return r;
    skeleton->rodata->n_sockets = config->n_sockets;
    skeleton->rodata->counters_in_use = programs->counters_in_use;
    /* It is run by hand. */
    bpf_program__set_autoattach(skeleton->progs.close_running_slice, false);
    return vm_usage__load(skeleton);
}

static int map_cpus(struct bpf_programs *programs)
{
    void *memory = mmap(NULL, programs->n_cpus * sizeof(*programs->cpus), PROT_READ | PROT_WRITE,
                        MAP_SHARED, bpf_map__fd(programs->skeleton->maps.cpus), 0);

    if (memory == MAP_FAILED)
        return -errno;
    programs->cpus = memory;
    return 0;
}

static void enter_counters(struct bpf_programs *programs)
{
    const int maps[VM_USAGE_COUNTERS] = {
        [VM_USAGE_CYCLES] = bpf_map__fd(programs->skeleton->maps.cycles),
        [VM_USAGE_INSTRUCTIONS] = bpf_map__fd(programs->skeleton->maps.instructions),
        [VM_USAGE_LLC_MISSES] = bpf_map__fd(programs->skeleton->maps.llc_misses),
    };

    for (size_t i = 0; i < VM_USAGE_COUNTERS; i++)
        for (uint32_t cpu = 0; cpu < programs->n_cpus; cpu++) {
            int fd = cpu_counters_fd(programs->counters, i, cpu);

            if (fd >= 0)
                bpf_map_update_elem(maps[i], &cpu, &fd, BPF_ANY);
        }
}

static void enter_topology(struct bpf_programs *programs, const struct topology *topology)
{
    programs->has_siblings = false;
    for (size_t cpu = 0; cpu < programs->n_cpus; cpu++) {
        int sibling = cpu < topology->n_cpus ? topology->sibling[cpu] : -1;

        programs->cpus[cpu].socket = cpu < topology->n_cpus ? topology->socket[cpu] : 0;
        programs->cpus[cpu].sibling = (size_t)sibling < programs->n_cpus ? sibling : -1;
        programs->has_siblings |= programs->cpus[cpu].sibling >= 0;
    }
}

/* PIDs must mean the same to the kernel's programs and to us. */
static int check_pid_namespace(const struct bpf_programs *programs)
{
    LIBBPF_OPTS(bpf_test_run_opts, options);
    int fd = bpf_program__fd(programs->skeleton->progs.close_running_slice);
    int r = bpf_prog_test_run_opts(fd, &options);

    if (r < 0)
        return r;
    return options.retval == (uint32_t)getpid() ? 0 : -EXDEV;
}

static int start(struct bpf_programs *programs, const struct bpf_programs_config *config)
{
    int r = map_cpus(programs);

    if (r < 0)
        return r;
    enter_topology(programs, config->topology);
    enter_counters(programs);
    r = check_pid_namespace(programs);
    if (r < 0)
        return r;
    programs->news =
        ring_buffer__new(bpf_map__fd(programs->skeleton->maps.news), on_news, programs, NULL);
    if (!programs->news)
        return -errno;
    r = vm_usage__attach(programs->skeleton);
    if (r < 0)
        return r;
    /* What runs since before this moment, and may not stop for long. */
    for (size_t cpu = 0; cpu < programs->n_cpus; cpu++)
        bpf_programs_close_slice(programs, cpu);
    return 0;
}

int bpf_programs_new(struct bpf_programs **ret, const struct bpf_programs_config *config)
{
    _cleanup_(cleanup_bpf_programs_free) struct bpf_programs *programs =
        calloc(1, sizeof(*programs));
    int n_cpus, r;

    if (!programs)
        return -ENOMEM;
    libbpf_set_print(print_libbpf);
    n_cpus = libbpf_num_possible_cpus();
    if (n_cpus < 0)
        return n_cpus;
    programs->n_cpus = (size_t)n_cpus;
    programs->processes_max = config->processes_max;
    programs->record_size =
        offsetof(struct vm_usage_process, sockets) +
        config->n_sockets * sizeof(((struct vm_usage_process *)NULL)->sockets[0]);
    programs->keys = calloc(config->processes_max, sizeof(*programs->keys));
    programs->records = calloc(config->processes_max, programs->record_size);
    if (!programs->keys || !programs->records)
        return -ENOMEM;
    r = cpu_counters_new(&programs->counters, config->counters, VM_USAGE_COUNTERS, programs->n_cpus,
                         &programs->counters_in_use);
    if (r < 0)
        return r;
    r = load(programs, config);
    if (r < 0)
        return r;
    r = start(programs, config);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(programs);
    return 0;
}

struct bpf_programs *bpf_programs_free(struct bpf_programs *programs)
{
    if (!programs)
        return NULL;
    ring_buffer__free(programs->news);
    if (programs->cpus)
        munmap(programs->cpus, programs->n_cpus * sizeof(*programs->cpus));
    vm_usage__destroy(programs->skeleton);
    cpu_counters_free(programs->counters);
    free(programs->keys);
    free(programs->records);
    free(programs);
    return NULL;
}

unsigned bpf_programs_counters(const struct bpf_programs *programs)
{
    return programs->counters_in_use;
}

bool bpf_programs_has_siblings(const struct bpf_programs *programs)
{
    return programs->has_siblings;
}

void bpf_programs_update_cpus(struct bpf_programs *programs, const struct topology *topology)
{
    enter_topology(programs, topology);
    cpu_counters_reopen(programs->counters);
    enter_counters(programs);
}

size_t bpf_programs_n_cpus(const struct bpf_programs *programs)
{
    return programs->n_cpus;
}

struct vm_usage_cpu bpf_programs_cpu(const struct bpf_programs *programs, size_t cpu)
{
    const volatile struct vm_usage_cpu *now = &programs->cpus[cpu];

    return *now;
}

void bpf_programs_close_slice(struct bpf_programs *programs, size_t cpu)
{
    LIBBPF_OPTS(bpf_test_run_opts, options, .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = (uint32_t)cpu);

    /* It fails for a CPU that is offline: nothing runs there. */
    bpf_prog_test_run_opts(bpf_program__fd(programs->skeleton->progs.close_running_slice),
                           &options);
}

int bpf_programs_add(struct bpf_programs *programs, const struct vm_usage_key *key)
{
    static const struct vm_usage_process nothing;

    return bpf_map_update_elem(bpf_map__fd(programs->skeleton->maps.processes), key, &nothing,
                               BPF_NOEXIST);
}

void bpf_programs_remove(struct bpf_programs *programs, const struct vm_usage_key *key)
{
    bpf_map_delete_elem(bpf_map__fd(programs->skeleton->maps.processes), key);
}

size_t bpf_programs_record_size(const struct bpf_programs *programs)
{
    return programs->record_size;
}

int bpf_programs_read(struct bpf_programs *programs, const struct vm_usage_key **ret_keys,
                      const char **ret_records, size_t *ret_n)
{
    uint32_t position, n = (uint32_t)programs->processes_max;
    int r = bpf_map_lookup_batch(bpf_map__fd(programs->skeleton->maps.processes), NULL, &position,
                                 programs->keys, programs->records, &n, NULL);

    /* The end of the map was reached. */
    if (r < 0 && r != -ENOENT)
        return r;
    *ret_keys = programs->keys;
    *ret_records = programs->records;
    *ret_n = n;
    return 0;
}

int bpf_programs_take_news(struct bpf_programs *programs, void (*on_process)(pid_t pid, void *),
                           void *userdata)
{
    uint64_t unheard = *(const volatile __u64 *)&programs->skeleton->bss->unheard;
    bool missed = unheard != programs->unheard;

    programs->unheard = unheard;
    programs->on_process = on_process;
    programs->userdata = userdata;
    ring_buffer__consume(programs->news);
    return missed ? -EOVERFLOW : 0;
}
