/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf_programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "usage/bpf_handover.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "vm_usage.skel.h"

_Static_assert(TRUSTED_OWNERS_MAX <= VM_USAGE_OWNERS_MAX, "the programs have room for all owners");
_Static_assert(sizeof(struct vm_usage_cpu) % 64 == 0, "no two CPUs write to one cache line");

/* The descriptors that keep the programs alive and are handed to the next daemon. */
enum {
    FD_PROCESSES,
    FD_CPUS,
    FD_EVENTS,
    FD_GLOBALS,
    FD_COUNTERS,
    FD_CLOSE_SLICE = FD_COUNTERS + VM_USAGE_COUNTERS,
    FD_LINKS,
    FDS = FD_LINKS + 6,
};

struct bpf_programs {
    struct bpf_set set;
    bool continued; /* loaded by a former daemon */
    int fds[FDS];
    struct ring_buffer *events;
    void (*on_process)(pid_t pid, void *userdata); /* during bpf_programs_take_events() */
    void *userdata;
    const volatile struct vm_usage__bss *globals;
    uint64_t events_lost; /* as of the last look, as the next one */
    uint64_t n_refused;
    struct vm_usage_cpu *cpus;
    bool has_siblings;
    struct cpu_counters *counters;
    size_t record_size;
    struct vm_usage_key *keys;
    char *records;
};

DEFINE_CLEANUP(struct bpf_programs *, bpf_programs_free);
DEFINE_CLEANUP(struct vm_usage *, vm_usage__destroy);

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_debug("libbpf", F_STRING("message", text));
    return 0;
}

static int on_event(void *context, void *data, size_t size)
{
    struct bpf_programs *programs = context;

    programs->on_process((pid_t) * (const uint32_t *)data, programs->userdata);
    return 0;
}

/* Of the programs, and of what is fixed in them at loading: the owners. */
static uint64_t object_hash(const struct trusted_owners *owners)
{
    size_t size;
    const void *object = vm_usage__elf_bytes(&size);
    uint64_t seed = owners ? XXH3_64bits(owners->uids, owners->n * sizeof(owners->uids[0])) : 0;

    return XXH3_64bits_withSeed(object, size, seed);
}

static size_t record_size(const struct bpf_set *set)
{
    return offsetof(struct vm_usage_process, sockets) +
           set->n_sockets * sizeof(struct vm_usage_counts);
}

static int map_memory(struct bpf_programs *programs)
{
    void *cpus = mmap(NULL, programs->set.n_cpus * sizeof(*programs->cpus), PROT_READ | PROT_WRITE,
                      MAP_SHARED, programs->fds[FD_CPUS], 0);
    void *globals;

    if (cpus == MAP_FAILED)
        return -errno;
    programs->cpus = cpus;
    globals =
        mmap(NULL, sizeof(*programs->globals), PROT_READ, MAP_SHARED, programs->fds[FD_GLOBALS], 0);
    if (globals == MAP_FAILED)
        return -errno;
    programs->globals = globals;
    programs->events_lost = programs->globals->events_lost;
    programs->n_refused = programs->globals->n_refused;
    return 0;
}

static void enter_counters(struct bpf_programs *programs)
{
    for (size_t i = 0; i < VM_USAGE_COUNTERS; i++)
        for (uint32_t cpu = 0; cpu < programs->set.n_cpus; cpu++) {
            int fd = cpu_counters_fd(programs->counters, i, cpu);

            if (fd >= 0)
                bpf_map_update_elem(programs->fds[FD_COUNTERS + i], &cpu, &fd, BPF_ANY);
        }
}

static void enter_topology(struct bpf_programs *programs, const struct topology *topology)
{
    programs->has_siblings = false;
    for (size_t cpu = 0; cpu < programs->set.n_cpus; cpu++) {
        int sibling = cpu < topology->n_cpus ? topology->sibling[cpu] : -1;

        programs->cpus[cpu].socket = cpu < topology->n_cpus ? topology->socket[cpu] : 0;
        programs->cpus[cpu].sibling = (size_t)sibling < programs->set.n_cpus ? sibling : -1;
        programs->has_siblings |= programs->cpus[cpu].sibling >= 0;
    }
}

/* PIDs must mean the same to the eBPF programs and to this daemon. */
static int check_pid_namespace(const struct bpf_programs *programs)
{
    LIBBPF_OPTS(bpf_test_run_opts, options);
    int r = bpf_prog_test_run_opts(programs->fds[FD_CLOSE_SLICE], &options);

    if (r < 0)
        return r;
    return options.retval == (uint32_t)getpid() ? 0 : -EXDEV;
}

/* Prepares work with the programs, whether this or a former daemon has loaded them. */
static int open_programs(struct bpf_programs *programs, const struct bpf_programs_config *config)
{
    int r;

    programs->record_size = record_size(&programs->set);
    programs->keys = calloc(programs->set.processes_max, sizeof(*programs->keys));
    programs->records = calloc(programs->set.processes_max, programs->record_size);
    if (!programs->keys || !programs->records)
        return -ENOMEM;
    r = map_memory(programs);
    if (r < 0)
        return r;
    enter_topology(programs, config->topology);
    enter_counters(programs);
    r = check_pid_namespace(programs);
    if (r < 0)
        return r;
    programs->events = ring_buffer__new(programs->fds[FD_EVENTS], on_event, programs, NULL);
    return programs->events ? 0 : -errno;
}

static void programs_init(struct bpf_programs *programs)
{
    *programs = (struct bpf_programs){0};
    for (size_t i = 0; i < FDS; i++)
        programs->fds[i] = -1;
}

static void close_programs(struct bpf_programs *programs)
{
    ring_buffer__free(programs->events);
    if (programs->cpus)
        munmap(programs->cpus, programs->set.n_cpus * sizeof(*programs->cpus));
    if (programs->globals)
        munmap((void *)programs->globals, sizeof(*programs->globals));
    for (size_t i = 0; i < FDS; i++)
        if (programs->fds[i] >= 0)
            close(programs->fds[i]);
    cpu_counters_free(programs->counters);
    free(programs->keys);
    free(programs->records);
    programs_init(programs);
}

static int open_counters(struct bpf_programs *programs, const struct bpf_programs_config *config,
                         unsigned *ret_in_use)
{
    return cpu_counters_new(&programs->counters, config->counters, VM_USAGE_COUNTERS,
                            programs->set.n_cpus, ret_in_use);
}

/* New programs. */

static void set_owners(struct vm_usage *skeleton, const struct trusted_owners *owners)
{
    if (!owners)
        return;
    skeleton->rodata->n_trusted_owners = (uint32_t)owners->n;
    memcpy((uint32_t *)skeleton->rodata->trusted_owners, owners->uids,
           owners->n * sizeof(owners->uids[0]));
}

static int load(const struct bpf_programs *programs, const struct trusted_owners *owners,
                struct vm_usage *skeleton)
{
    struct bpf_map *per_cpu[] = {skeleton->maps.cpus, skeleton->maps.cycles,
                                 skeleton->maps.instructions, skeleton->maps.llc_misses};
    int r = 0;

    for (size_t i = 0; i < sizeof(per_cpu) / sizeof(per_cpu[0]) && r == 0; i++)
        r = bpf_map__set_max_entries(per_cpu[i], programs->set.n_cpus);
    if (r == 0)
        r = bpf_map__set_max_entries(skeleton->maps.processes, programs->set.processes_max);
    if (r == 0)
        r = bpf_map__set_value_size(skeleton->maps.processes,
                                    (uint32_t)record_size(&programs->set));
    if (r < 0)
        return r;
    skeleton->rodata->n_sockets = programs->set.n_sockets;
    skeleton->rodata->counters_in_use = programs->set.counters_in_use;
    set_owners(skeleton, owners);
    /* bpf_programs_close_slice() runs this program explicitly. */
    bpf_program__set_autoattach(skeleton->progs.close_running_slice, false);
    return vm_usage__load(skeleton);
}

/* Duplicates the skeleton's descriptors. */
static int copy_fds(int *ret, const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (ret[i] < 0)
            return -errno;
    }
    return 0;
}

static int copy_maps(struct bpf_programs *programs, const struct vm_usage *skeleton)
{
    const int fds[FD_LINKS] = {
        [FD_PROCESSES] = bpf_map__fd(skeleton->maps.processes),
        [FD_CPUS] = bpf_map__fd(skeleton->maps.cpus),
        [FD_EVENTS] = bpf_map__fd(skeleton->maps.events),
        [FD_GLOBALS] = bpf_map__fd(skeleton->maps.bss),
        [FD_COUNTERS + VM_USAGE_CYCLES] = bpf_map__fd(skeleton->maps.cycles),
        [FD_COUNTERS + VM_USAGE_INSTRUCTIONS] = bpf_map__fd(skeleton->maps.instructions),
        [FD_COUNTERS + VM_USAGE_LLC_MISSES] = bpf_map__fd(skeleton->maps.llc_misses),
        [FD_CLOSE_SLICE] = bpf_program__fd(skeleton->progs.close_running_slice),
    };

    return copy_fds(programs->fds, fds, FD_LINKS);
}

static int copy_links(struct bpf_programs *programs, const struct vm_usage *skeleton)
{
    const int fds[FDS - FD_LINKS] = {
        bpf_link__fd(skeleton->links.switch_slices), bpf_link__fd(skeleton->links.list_child),
        bpf_link__fd(skeleton->links.list_program),  bpf_link__fd(skeleton->links.list_vhost),
        bpf_link__fd(skeleton->links.list_member),   bpf_link__fd(skeleton->links.note_end),
    };

    return copy_fds(programs->fds + FD_LINKS, fds, FDS - FD_LINKS);
}

static int start_new(struct bpf_programs *programs, const struct bpf_programs_config *config,
                     const struct bpf_set *wanted)
{
    _cleanup_(cleanup_vm_usage__destroy) struct vm_usage *skeleton = vm_usage__open();
    int r;

    if (!skeleton)
        return -errno;
    programs->set = *wanted;
    programs->set.id = now_ns();
    r = open_counters(programs, config, &programs->set.counters_in_use);
    if (r == 0)
        r = load(programs, config->owners, skeleton);
    if (r == 0)
        r = copy_maps(programs, skeleton);
    if (r == 0)
        r = open_programs(programs, config);
    if (r == 0)
        r = vm_usage__attach(skeleton);
    if (r == 0)
        r = copy_links(programs, skeleton);
    if (r < 0)
        return r;
    /* Open a slice for tasks already running, which may not switch for a long time. */
    for (size_t cpu = 0; cpu < programs->set.n_cpus; cpu++)
        bpf_programs_close_slice(programs, cpu);
    r = bpf_handover_keep(&programs->set, programs->fds, FDS);
    if (r < 0 && r != -ENOTCONN)
        log_warning("usage will not be counted while no daemon runs", F_ERROR(r));
    return 0;
}

/* A former daemon's programs. */

static const char *difference(const struct bpf_set *set, const struct bpf_set *wanted)
{
    if (set->object != wanted->object)
        return "they are of another version or list other users' programs";
    if (set->id != wanted->id)
        return "it is not known how far they had been counted";
    if (set->n_cpus != wanted->n_cpus || set->n_sockets < wanted->n_sockets ||
        set->processes_max != wanted->processes_max)
        return "they are for another number of CPUs or processes";
    return NULL;
}

/* The maps still hold the dead daemon's perf events: new events need their place. */
static void remove_counters(const struct bpf_programs *programs)
{
    for (size_t i = 0; i < VM_USAGE_COUNTERS; i++)
        for (uint32_t cpu = 0; cpu < programs->set.n_cpus; cpu++)
            bpf_map_delete_elem(programs->fds[FD_COUNTERS + i], &cpu);
}

/* @return why the set cannot be continued, or NULL */
static const char *resume(struct bpf_programs *programs, const struct bpf_programs_config *config)
{
    unsigned in_use;
    int r;

    remove_counters(programs);
    r = open_counters(programs, config, &in_use);
    if (r == 0 && in_use != programs->set.counters_in_use)
        return "other hardware counters are there now";
    if (r == 0)
        r = open_programs(programs, config);
    return r < 0 ? log_errno_text(r) : NULL;
}

/* @return whether the programs are a former daemon's */
static bool continue_former(struct bpf_programs *programs, const struct bpf_programs_config *config,
                            const struct bpf_set *wanted)
{
    const char *reason;
    int r = bpf_handover_take(config->descriptors, &programs->set, programs->fds, FDS);

    if (r == -ENOENT)
        return false;
    reason = r < 0 ? "they are not all there" : difference(&programs->set, wanted);
    if (!reason)
        reason = resume(programs, config);
    if (!reason)
        return true;
    log_warning("the former daemon's eBPF programs cannot be continued: usage meanwhile is "
                "not attributed",
                F_STRING("reason", reason));
    close_programs(programs);
    return false;
}

int bpf_programs_new(struct bpf_programs **ret, const struct bpf_programs_config *config)
{
    _cleanup_(cleanup_bpf_programs_free) struct bpf_programs *programs =
        calloc(1, sizeof(*programs));
    struct bpf_set wanted = {
        .object = object_hash(config->owners),
        .id = config->former_id,
        .n_sockets = config->n_sockets,
        .processes_max = config->processes_max,
    };
    int n_cpus, r;

    if (!programs)
        return -ENOMEM;
    programs_init(programs);
    libbpf_set_print(print_libbpf);
    n_cpus = libbpf_num_possible_cpus();
    if (n_cpus < 0)
        return n_cpus;
    wanted.n_cpus = (uint32_t)n_cpus;
    programs->continued = continue_former(programs, config, &wanted);
    if (!programs->continued) {
        r = start_new(programs, config, &wanted);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(programs);
    return 0;
}

struct bpf_programs *bpf_programs_free(struct bpf_programs *programs)
{
    if (programs) {
        close_programs(programs);
        free(programs);
    }
    return NULL;
}

bool bpf_programs_continued(const struct bpf_programs *programs)
{
    return programs->continued;
}

const struct bpf_set *bpf_programs_set(const struct bpf_programs *programs)
{
    return &programs->set;
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

struct vm_usage_cpu bpf_programs_cpu(const struct bpf_programs *programs, size_t cpu)
{
    const volatile struct vm_usage_cpu *now = &programs->cpus[cpu];

    return *now;
}

void bpf_programs_close_slice(struct bpf_programs *programs, size_t cpu)
{
    LIBBPF_OPTS(bpf_test_run_opts, options, .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = (uint32_t)cpu);

    /* Fails for an offline CPU, on which nothing runs. */
    bpf_prog_test_run_opts(programs->fds[FD_CLOSE_SLICE], &options);
}

int bpf_programs_add(struct bpf_programs *programs, const struct vm_usage_key *key)
{
    static const struct vm_usage_process nothing;

    return bpf_map_update_elem(programs->fds[FD_PROCESSES], key, &nothing, BPF_NOEXIST);
}

void bpf_programs_remove(struct bpf_programs *programs, const struct vm_usage_key *key)
{
    bpf_map_delete_elem(programs->fds[FD_PROCESSES], key);
}

size_t bpf_programs_record_size(const struct bpf_programs *programs)
{
    return programs->record_size;
}

int bpf_programs_read(struct bpf_programs *programs, const struct vm_usage_key **ret_keys,
                      const char **ret_records, size_t *ret_n)
{
    uint32_t position, n = (uint32_t)programs->set.processes_max;
    int r = bpf_map_lookup_batch(programs->fds[FD_PROCESSES], NULL, &position, programs->keys,
                                 programs->records, &n, NULL);

    /* The end of the map was reached. */
    if (r < 0 && r != -ENOENT)
        return r;
    *ret_keys = programs->keys;
    *ret_records = programs->records;
    *ret_n = n;
    return 0;
}

/* Of many programs, the last few are told of. */
static void take_refused(struct bpf_programs *programs)
{
    uint64_t n = programs->globals->n_refused;

    if (n - programs->n_refused > VM_USAGE_REFUSED_MAX)
        programs->n_refused = n - VM_USAGE_REFUSED_MAX;
    for (uint64_t i = programs->n_refused; i < n; i++)
        programs->on_process((pid_t)programs->globals->refused[i % VM_USAGE_REFUSED_MAX],
                             programs->userdata);
    programs->n_refused = n;
}

int bpf_programs_take_events(struct bpf_programs *programs, void (*on_process)(pid_t pid, void *),
                             void *userdata)
{
    uint64_t events_lost = programs->globals->events_lost;
    bool missed = events_lost != programs->events_lost;

    programs->events_lost = events_lost;
    programs->on_process = on_process;
    programs->userdata = userdata;
    ring_buffer__consume(programs->events);
    take_refused(programs);
    return missed ? -EOVERFLOW : 0;
}
