/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf.h"

/*
 * The bpf usage provider: reads what the kernel side (bpf/vm_usage.bpf.c)
 * counted for each process it has listed, and adds it up by VM.
 *
 * The kernel lists processes that may belong to a VM before anybody could tell
 * to which. Until discovery has found out, what such a process used is kept:
 * its first interval counts when its VM is known. One that no VM has claimed
 * after a while is taken off the list, and was the host's all the time, for the
 * host has what is left of the CPUs' busy time. A child of a VM's process works
 * for that VM, known to discovery or not.
 *
 * The order of the kernel's map is of no use: populations are sorted by key, so
 * that this one, the last one, and what discovery found can be walked side by
 * side. Nothing here grows with the number of other processes of the host.
 */

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "usage/bpf_population.h"
#include "usage/bpf_programs.h"
#include "usage/host_cpus.h"
#include "usage/memory.h"
#include "usage/usage_state.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* How long a process may be unknown to discovery. */
#define CLAIM_NS (10 * NSEC_PER_SEC)

/* All processes are looked at again this often, whatever the kernel told. */
#define RESCAN_NS (600 * NSEC_PER_SEC)

/* A process that discovery found. */
struct finding {
    struct vm_usage_key key;
    const struct vm *vm;
};

struct bpf_usage {
    struct usage_provider head;
    struct host_cpus *cpus;
    struct memory_reader *memory;
    struct bpf_programs *programs;
    struct population known;        /* as of the last sample */
    struct vm_usage_cpu *last_cpus; /* for the totals of their others, as of then */
    uint64_t n_unlisted;            /* processes of VMs without a record, at the last sample */
    uint64_t rescan_ns;             /* when all processes are to be looked at again */
    pid_t *changed;                 /* PIDs, for discovery */
    size_t n_changed;
};

const struct cpu_counter bpf_usage_counters[VM_USAGE_COUNTERS] = {
    [VM_USAGE_CYCLES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    [VM_USAGE_INSTRUCTIONS] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    [VM_USAGE_LLC_MISSES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
};

static const struct vm_usage_process *record_before(const struct bpf_usage *usage,
                                                    const struct member *member)
{
    return population_record(&usage->known, &usage->known.members[member->before]);
}

/* What discovery found. */

static int list_findings(const struct vm_table *vms, struct finding **ret, size_t *ret_n)
{
    struct finding *findings;
    size_t n = 0;

    for (size_t i = 0; i < vms->n; i++)
        n += vms->vms[i].n_processes;
    findings = calloc(n + 1, sizeof(*findings));
    if (!findings)
        return -ENOMEM;
    n = 0;
    for (size_t i = 0; i < vms->n; i++)
        for (size_t j = 0; j < vms->vms[i].n_processes; j++) {
            const struct process_id *id = &vms->vms[i].processes[j].id;

            findings[n++] = (struct finding){
                .key = {.pid = (uint32_t)id->pid, .start_ticks = id->start_ticks},
                .vm = &vms->vms[i],
            };
        }
    qsort(findings, n, sizeof(*findings), vm_usage_key_compare);
    *ret = findings;
    *ret_n = n;
    return 0;
}

/* Processes that were there before us, or have a name of which the kernel side knows nothing. */
static void add_findings(struct bpf_usage *usage, const struct finding *findings, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!population_find(&usage->known, &findings[i].key))
            bpf_programs_add(usage->programs, &findings[i].key);
}

static void claim(struct member *member, const uuid_t uuid)
{
    uuid_copy(member->uuid, uuid);
    member->claimed = true;
}

/* Each member is claimed by the VM that discovery found it in, or that it was claimed by before. */
static void claim_members(struct bpf_usage *usage, struct population *population,
                          const struct finding *findings, size_t n_findings)
{
    size_t finding = 0, known = 0, n_listed = 0;

    for (size_t i = 0; i < population->n; i++) {
        struct member *member = &population->members[i];

        while (known < usage->known.n &&
               vm_usage_key_compare(&usage->known.members[known].key, &member->key) < 0)
            known++;
        if (known < usage->known.n &&
            vm_usage_key_compare(&usage->known.members[known].key, &member->key) == 0) {
            const struct member *old = &usage->known.members[known];

            member->before = known;
            member->claimed = old->claimed;
            member->listed_ns = old->listed_ns;
            uuid_copy(member->uuid, old->uuid);
        }
        while (finding < n_findings &&
               vm_usage_key_compare(&findings[finding].key, &member->key) < 0)
            finding++;
        if (finding < n_findings &&
            vm_usage_key_compare(&findings[finding].key, &member->key) == 0) {
            claim(member, findings[finding].vm->uuid);
            member->found = true;
            n_listed++;
        }
    }
    if (n_findings - n_listed > usage->n_unlisted)
        log_warning("no room for all processes of VMs: what some use counts to the host",
                    F_UINT("without_record", n_findings - n_listed),
                    F_UINT("room", bpf_programs_set(usage->programs)->processes_max));
    usage->n_unlisted = n_findings - n_listed;
}

static void claim_children(struct population *population)
{
    for (size_t i = 0; i < population->n; i++) {
        struct member *member = &population->members[i], *parent;
        const struct vm_usage_process *record = population_record(population, member);

        if (member->claimed || record->parent.pid == 0)
            continue;
        parent = population_find(population, &record->parent);
        if (parent && parent->claimed)
            claim(member, parent->uuid);
    }
}

/* The amounts. */

static uint64_t growth(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

static void add_counts(struct usage_socket *total, const struct vm_usage_counts *now,
                       const struct vm_usage_counts *before)
{
    total->cpu_ns += growth(now->cpu_ns, before->cpu_ns);
    total->corun_ns += growth(now->corun_ns, before->corun_ns);
    total->cycles += growth(now->counters[VM_USAGE_CYCLES], before->counters[VM_USAGE_CYCLES]);
    total->instructions +=
        growth(now->counters[VM_USAGE_INSTRUCTIONS], before->counters[VM_USAGE_INSTRUCTIONS]);
    total->llc_misses +=
        growth(now->counters[VM_USAGE_LLC_MISSES], before->counters[VM_USAGE_LLC_MISSES]);
}

/* What a member used since it was last counted; one that was not claimed until now, ever. */
static void add_member(const struct bpf_usage *usage, const struct population *population,
                       const struct member *member, struct usage_amount *amount)
{
    static const struct vm_usage_process nothing;
    const struct vm_usage_process *now = population_record(population, member);
    const struct vm_usage_process *before = &nothing;

    if (member->before != NOT_BEFORE && usage->known.members[member->before].claimed)
        before = record_before(usage, member);

    for (unsigned s = 0; s < bpf_programs_set(usage->programs)->n_sockets; s++)
        add_counts(&amount->sockets[s], &now->sockets[s], &before->sockets[s]);
    amount->io_bytes += growth(now->io_bytes, before->io_bytes);
}

static int list_vms(const struct population *population, struct usage *ret)
{
    _cleanup_free_ uuid_t *uuids = calloc(population->n + 1, sizeof(*uuids));
    size_t n = 0;

    if (!uuids)
        return -ENOMEM;
    for (size_t i = 0; i < population->n; i++)
        if (population->members[i].claimed)
            uuid_copy(uuids[n++], population->members[i].uuid);
    return usage_init_vms(ret, uuids, n);
}

static void add_members(const struct bpf_usage *usage, const struct population *population,
                        struct usage *ret)
{
    for (size_t i = 0; i < population->n; i++) {
        const struct member *member = &population->members[i];

        if (member->claimed)
            add_member(usage, population, member, usage_find_amount(ret, member->uuid));
    }
}

static void take_others(struct bpf_usage *usage, struct usage *ret)
{
    for (size_t i = 0; i < bpf_programs_set(usage->programs)->n_cpus; i++) {
        struct vm_usage_cpu now = bpf_programs_cpu(usage->programs, i);
        const struct vm_usage_cpu *before = &usage->last_cpus[i];

        add_counts(&ret->host.sockets[now.socket], &now.others, &before->others);
        ret->host.io_bytes += growth(now.others_io_bytes, before->others_io_bytes);
        usage->last_cpus[i] = now;
    }
    /* Interrupts that find a CPU idle are nobody's task, and the host's as well. */
    host_cpus_take(usage->cpus, ret);
    for (unsigned s = 0; s < SOCKETS_MAX; s++)
        if (ret->host.sockets[s].corun_ns > ret->host.sockets[s].cpu_ns)
            ret->host.sockets[s].corun_ns = ret->host.sockets[s].cpu_ns;
}

/* The interval. */

/* Idle CPUs are left alone: an interrupt would wake them. A switch may go unseen
 * (bpf/vm_usage.bpf.c), so a CPU that seems to idle is asked as well if it was busy lately. */
static void close_running_slices(struct bpf_usage *usage)
{
    for (size_t i = 0; i < bpf_programs_set(usage->programs)->n_cpus; i++)
        if (bpf_programs_cpu(usage->programs, i).pid != 0 || host_cpus_was_busy(usage->cpus, i))
            bpf_programs_close_slice(usage->programs, i);
}

static void remove_ended(struct bpf_usage *usage, const struct population *population)
{
    uint64_t now = now_ns();

    for (size_t i = 0; i < population->n; i++) {
        const struct member *member = &population->members[i];
        /* Not when its end is seen first: its last threads may still be at work. */
        bool ended =
            member->before != NOT_BEFORE && record_before(usage, member)->ended && !member->found;

        if (ended || (!member->claimed && now - member->listed_ns > CLAIM_NS))
            bpf_programs_remove(usage->programs, &member->key);
    }
}

static unsigned features(const struct bpf_usage *usage)
{
    unsigned counters = bpf_programs_set(usage->programs)->counters_in_use;

    return (bpf_programs_has_siblings(usage->programs) ? USAGE_CORUN : 0) |
           (counters & 1u << VM_USAGE_CYCLES ? USAGE_CYCLES : 0) |
           (counters & 1u << VM_USAGE_INSTRUCTIONS ? USAGE_INSTRUCTIONS : 0) |
           (counters & 1u << VM_USAGE_LLC_MISSES ? USAGE_LLC_MISSES : 0);
}

static int update_cpus(struct bpf_usage *usage)
{
    int r = host_cpus_update(usage->cpus);

    if (r > 0)
        bpf_programs_update_cpus(usage->programs, host_cpus_topology(usage->cpus));
    return r < 0 ? r : 0;
}

static int bpf_sample(struct usage_provider *provider, const struct vm_table *vms,
                      struct usage *ret)
{
    struct bpf_usage *usage = (struct bpf_usage *)provider;
    _cleanup_(population_deinit) struct population population = {0};
    _cleanup_(usage_deinit) struct usage result = {0};
    _cleanup_free_ struct finding *findings = NULL;
    size_t n_findings;
    int r;

    /* All that can fail comes before anything is taken. */
    r = list_findings(vms, &findings, &n_findings);
    if (r < 0)
        return r;
    r = update_cpus(usage);
    if (r < 0)
        return r;
    add_findings(usage, findings, n_findings);
    close_running_slices(usage);
    r = population_read(usage->programs, &population);
    if (r < 0)
        return r;
    claim_members(usage, &population, findings, n_findings);
    claim_children(&population);
    result.n_sockets = host_cpus_n_sockets(usage->cpus);
    result.features = features(usage);
    result.n_unlisted = usage->n_unlisted;
    r = list_vms(&population, &result);
    if (r < 0)
        return r;
    add_members(usage, &population, &result);
    take_others(usage, &result);
    r = memory_reader_sample(usage->memory, vms, &result);
    if (r < 0)
        log_warning("memory was not read", F_ERROR(r));
    remove_ended(usage, &population);
    population_deinit(&usage->known);
    usage->known = population;
    population = (struct population){0};
    *ret = result;
    result = (struct usage){0};
    return 0;
}

/* News. */

static void on_process(pid_t pid, void *userdata)
{
    struct bpf_usage *usage = userdata;
    pid_t *grown = realloc(usage->changed, (usage->n_changed + 1) * sizeof(*grown));

    if (!grown) {
        usage->rescan_ns = 0;
        return;
    }
    usage->changed = grown;
    usage->changed[usage->n_changed++] = pid;
}

static void bpf_take_changes(struct usage_provider *provider, struct process_changes *ret)
{
    struct bpf_usage *usage = (struct bpf_usage *)provider;
    uint64_t now = now_ns();

    usage->n_changed = 0;
    if (bpf_programs_take_news(usage->programs, on_process, usage) < 0)
        usage->rescan_ns = 0;
    /* To give back a large guest's memory takes a process seconds, in which it seems to live. */
    for (size_t i = 0; i < usage->known.n; i++)
        if (population_record(&usage->known, &usage->known.members[i])->ended)
            on_process((pid_t)usage->known.members[i].key.pid, usage);
    *ret = (struct process_changes){
        .all = now >= usage->rescan_ns,
        .pids = usage->changed,
        .n = usage->n_changed,
    };
    if (ret->all)
        usage->rescan_ns = now + RESCAN_NS;
}

/* From one process to the next: the set of programs, the CPUs, the processes, and the host. */
static int bpf_save(const struct usage_provider *provider, struct buffer *ret)
{
    const struct bpf_usage *usage = (const struct bpf_usage *)provider;
    const struct bpf_set *set = bpf_programs_set(usage->programs);
    int r = buffer_append(ret, set, sizeof(*set));

    if (r == 0)
        r = buffer_append(ret, usage->last_cpus, set->n_cpus * sizeof(*usage->last_cpus));
    if (r == 0)
        r = population_save(&usage->known, ret);
    return r < 0 ? r : host_cpus_save(usage->cpus, ret);
}

/* @param state  what follows the set that has been continued */
static int restore(struct bpf_usage *usage, struct bytes *state)
{
    uint32_t n_cpus = bpf_programs_set(usage->programs)->n_cpus;
    const void *cpus = bytes_take(state, n_cpus, sizeof(*usage->last_cpus));
    int r;

    if (!cpus)
        return -EBADMSG;
    r = population_restore(&usage->known, state, bpf_programs_record_size(usage->programs));
    if (r == 0)
        r = host_cpus_restore(usage->cpus, state);
    if (r < 0)
        return r;
    memcpy(usage->last_cpus, cpus, n_cpus * sizeof(*usage->last_cpus));
    usage->head.continues = true;
    return 0;
}

static void bpf_free(struct usage_provider *provider)
{
    struct bpf_usage *usage = (struct bpf_usage *)provider;

    bpf_programs_free(usage->programs);
    memory_reader_free(usage->memory);
    host_cpus_free(usage->cpus);
    population_deinit(&usage->known);
    free(usage->last_cpus);
    free(usage->changed);
    free(usage);
}

static const struct usage_provider_ops bpf_usage_ops = {
    .name = "bpf",
    .sample = bpf_sample,
    .take_changes = bpf_take_changes,
    .save = bpf_save,
    .free = bpf_free,
};

static int load_programs(struct bpf_usage *usage, const struct bpf_usage_config *config,
                         uint64_t former_id)
{
    const struct bpf_programs_config programs = {
        .topology = host_cpus_topology(usage->cpus),
        /* CPUs that are offline may turn out to be on any socket. */
        .n_sockets =
            host_cpus_all_online(usage->cpus) ? host_cpus_n_sockets(usage->cpus) : SOCKETS_MAX,
        .processes_max = config->processes_max,
        .counters = config->counters,
        .descriptors = config->former.descriptors,
        .former_id = former_id,
    };
    int r = bpf_programs_new(&usage->programs, &programs);

    if (r < 0)
        return r;
    usage->last_cpus = calloc(bpf_programs_set(usage->programs)->n_cpus, sizeof(*usage->last_cpus));
    return usage->last_cpus ? 0 : -ENOMEM;
}

/* A former daemon's programs and how far they had been counted, or new ones. */
static int start_programs(struct bpf_usage *usage, const struct bpf_usage_config *config)
{
    const struct usage_former *former = &config->former;
    const struct bpf_set *set = NULL;
    struct bytes state = {0};
    int r;

    if (former->state && usage_state_open(former->state, former->state_size, bpf_usage_ops.name,
                                          former->time_ns, &state) == 0)
        set = bytes_take(&state, 1, sizeof(*set));
    r = load_programs(usage, config, set ? set->id : 0);
    if (r < 0 || !bpf_programs_continued(usage->programs))
        return r;
    r = restore(usage, &state);
    if (r != -EBADMSG)
        return r;
    population_deinit(&usage->known);
    free(TAKE_PTR(usage->last_cpus));
    usage->programs = bpf_programs_free(usage->programs);
    return load_programs(usage, config, 0);
}

DEFINE_CLEANUP(struct usage_provider *, usage_provider_free);

int bpf_usage_new(struct usage_provider **ret, const struct bpf_usage_config *config)
{
    _cleanup_(cleanup_usage_provider_free) struct usage_provider *provider = NULL;
    struct bpf_usage *usage = calloc(1, sizeof(*usage));
    int r;

    if (!usage)
        return -ENOMEM;
    provider = &usage->head;
    provider->ops = &bpf_usage_ops;
    r = host_cpus_new(&usage->cpus, "/proc", config->sysfs_root);
    if (r < 0)
        return r;
    r = memory_reader_new(&usage->memory, "/proc", config->sysfs_root,
                          host_cpus_topology(usage->cpus));
    if (r < 0)
        return r;
    r = start_programs(usage, config);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(provider);
    return 0;
}
