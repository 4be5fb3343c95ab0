/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf.h"

/*
 * The bpf usage provider: reads what the kernel side (bpf/vm_usage.bpf.c)
 * counted for each process it has listed, and adds it up by VM.
 *
 * The kernel side lists processes that may belong to a VM before discovery knows
 * the VM. Until then the usage of such a process is kept, so that its first
 * interval counts when its VM is known. A process that is assigned to no VM
 * within ASSIGN_NS is taken off the list; its usage was the host's all the time,
 * since the host gets the rest of the CPUs' busy time. A child of a VM's process
 * works for that VM, known to discovery or not.
 *
 * The kernel's map has no useful order: process tables are sorted by key, so
 * that this table, the last one and discovery's processes can be walked side by
 * side. Nothing here grows with the number of other processes of the host.
 */

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"
#include "usage/bpf_programs.h"
#include "usage/host_cpus.h"
#include "usage/process_table.h"
#include "usage/usage_state.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* How long a listed process may be unknown to discovery. */
#define ASSIGN_NS (10 * NSEC_PER_SEC)

/* How often all processes are examined again, whatever the kernel has reported. */
#define RESCAN_NS (600 * NSEC_PER_SEC)

/* A process that discovery found. */
struct discovered_process {
    struct vm_usage_key key;
    const struct vm *vm;
};

struct bpf_usage {
    struct usage_provider head;
    struct host_cpus *cpus;
    struct memory_reader *memory;
    struct bpf_programs *programs;
    struct process_table known;     /* as of the last sample */
    struct vm_usage_cpu *last_cpus; /* as of then: for the CPU time outside the listed processes */
    uint64_t n_unlisted;            /* processes of VMs without a record, at the last sample */
    uint64_t rescan_ns;             /* when all processes are due to be examined again */
    pid_t *changed;                 /* PIDs, for discovery */
    size_t n_changed;
};

const struct cpu_counter bpf_usage_counters[VM_USAGE_COUNTERS] = {
    [VM_USAGE_CYCLES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    [VM_USAGE_INSTRUCTIONS] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    [VM_USAGE_LLC_MISSES] = {PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
};

static const struct vm_usage_process *record_before(const struct bpf_usage *usage,
                                                    const struct tracked_process *process)
{
    return process_table_record(&usage->known, &usage->known.processes[process->before]);
}

/* Discovery's processes. */

static int list_discovered(const struct vm_table *vms, struct discovered_process **ret,
                           size_t *ret_n)
{
    struct discovered_process *discovered;
    size_t n = 0;

    for (size_t i = 0; i < vms->n; i++)
        n += vms->vms[i].n_processes;
    discovered = calloc(n + 1, sizeof(*discovered));
    if (!discovered)
        return -ENOMEM;
    n = 0;
    for (size_t i = 0; i < vms->n; i++)
        for (size_t j = 0; j < vms->vms[i].n_processes; j++) {
            const struct process_id *id = &vms->vms[i].processes[j].id;

            discovered[n++] = (struct discovered_process){
                .key = {.pid = (uint32_t)id->pid, .start_ticks = id->start_ticks},
                .vm = &vms->vms[i],
            };
        }
    qsort(discovered, n, sizeof(*discovered), vm_usage_key_compare);
    *ret = discovered;
    *ret_n = n;
    return 0;
}

/* Lists processes that started before this daemon, or whose name the kernel side does not know. */
static void add_discovered(struct bpf_usage *usage, const struct discovered_process *discovered,
                           size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!process_table_find(&usage->known, &discovered[i].key))
            bpf_programs_add(usage->programs, &discovered[i].key);
}

static void assign_vm(struct tracked_process *process, const uuid_t uuid)
{
    uuid_copy(process->uuid, uuid);
    process->assigned = true;
}

/* Assigns each process to the VM in which discovery found it, or to the one it was assigned to
 * before. */
static void assign_vms(struct bpf_usage *usage, struct process_table *table,
                       const struct discovered_process *discovered, size_t n_discovered)
{
    size_t next_discovered = 0, known = 0, n_listed = 0;

    for (size_t i = 0; i < table->n; i++) {
        struct tracked_process *process = &table->processes[i];

        while (known < usage->known.n &&
               vm_usage_key_compare(&usage->known.processes[known].key, &process->key) < 0)
            known++;
        if (known < usage->known.n &&
            vm_usage_key_compare(&usage->known.processes[known].key, &process->key) == 0) {
            const struct tracked_process *old = &usage->known.processes[known];

            process->before = known;
            process->assigned = old->assigned;
            process->listed_ns = old->listed_ns;
            uuid_copy(process->uuid, old->uuid);
        }
        while (next_discovered < n_discovered &&
               vm_usage_key_compare(&discovered[next_discovered].key, &process->key) < 0)
            next_discovered++;
        if (next_discovered < n_discovered &&
            vm_usage_key_compare(&discovered[next_discovered].key, &process->key) == 0) {
            assign_vm(process, discovered[next_discovered].vm->uuid);
            process->found = true;
            n_listed++;
        }
    }
    if (n_discovered - n_listed > usage->n_unlisted)
        log_warning("no room for all processes of VMs: the usage of some counts to the host",
                    F_UINT("without_record", n_discovered - n_listed),
                    F_UINT("room", bpf_programs_set(usage->programs)->processes_max));
    usage->n_unlisted = n_discovered - n_listed;
}

static void assign_children(struct process_table *table)
{
    for (size_t i = 0; i < table->n; i++) {
        struct tracked_process *process = &table->processes[i], *parent;
        const struct vm_usage_process *record = process_table_record(table, process);

        if (process->assigned || record->parent.pid == 0)
            continue;
        parent = process_table_find(table, &record->parent);
        if (parent && parent->assigned)
            assign_vm(process, parent->uuid);
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

/* What a process used since it was last counted; for a process assigned to a VM only now, since its
 * start. */
static void add_process(const struct bpf_usage *usage, const struct process_table *table,
                        const struct tracked_process *process, struct usage_amount *amount)
{
    static const struct vm_usage_process nothing;
    const struct vm_usage_process *now = process_table_record(table, process);
    const struct vm_usage_process *before = &nothing;

    if (process->before != NOT_BEFORE && usage->known.processes[process->before].assigned)
        before = record_before(usage, process);

    for (unsigned s = 0; s < bpf_programs_set(usage->programs)->n_sockets; s++)
        add_counts(&amount->sockets[s], &now->sockets[s], &before->sockets[s]);
    amount->io_bytes += growth(now->io_bytes, before->io_bytes);
}

static int list_vms(const struct process_table *table, struct usage *ret)
{
    _cleanup_free_ uuid_t *uuids = calloc(table->n + 1, sizeof(*uuids));
    size_t n = 0;

    if (!uuids)
        return -ENOMEM;
    for (size_t i = 0; i < table->n; i++)
        if (table->processes[i].assigned)
            uuid_copy(uuids[n++], table->processes[i].uuid);
    return usage_init_vms(ret, uuids, n);
}

static void add_processes(const struct bpf_usage *usage, const struct process_table *table,
                          struct usage *ret)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct tracked_process *process = &table->processes[i];

        if (process->assigned)
            add_process(usage, table, process, usage_find_amount(ret, process->uuid));
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
    /* Interrupts on an idle CPU run in no task; their time is the host's as well. */
    host_cpus_take(usage->cpus, ret);
    for (unsigned s = 0; s < PACKAGES_MAX; s++)
        if (ret->host.sockets[s].corun_ns > ret->host.sockets[s].cpu_ns)
            ret->host.sockets[s].corun_ns = ret->host.sockets[s].cpu_ns;
}

/* The interval. */

/* Idle CPUs are not interrupted, which would wake them. The programs may miss a switch
 * (bpf/vm_usage.bpf.c), so a CPU that seems idle but was busy lately is asked as well. */
static void close_running_slices(struct bpf_usage *usage)
{
    for (size_t i = 0; i < bpf_programs_set(usage->programs)->n_cpus; i++)
        if (bpf_programs_cpu(usage->programs, i).pid != 0 || host_cpus_was_busy(usage->cpus, i))
            bpf_programs_close_slice(usage->programs, i);
}

static void remove_ended(struct bpf_usage *usage, const struct process_table *table)
{
    uint64_t now = now_ns();

    for (size_t i = 0; i < table->n; i++) {
        const struct tracked_process *process = &table->processes[i];
        /* Not in the first sample that shows its end: its last threads may still run. */
        bool ended = process->before != NOT_BEFORE && record_before(usage, process)->ended &&
                     !process->found;

        if (ended || (!process->assigned && now - process->listed_ns > ASSIGN_NS))
            bpf_programs_remove(usage->programs, &process->key);
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
    _cleanup_(process_table_deinit) struct process_table table = {0};
    _cleanup_(usage_deinit) struct usage result = {0};
    _cleanup_free_ struct discovered_process *discovered = NULL;
    size_t n_discovered;
    int r;

    /* Everything that can fail comes before anything is taken. */
    r = list_discovered(vms, &discovered, &n_discovered);
    if (r < 0)
        return r;
    r = update_cpus(usage);
    if (r < 0)
        return r;
    add_discovered(usage, discovered, n_discovered);
    close_running_slices(usage);
    r = process_table_read(usage->programs, &table);
    if (r < 0)
        return r;
    assign_vms(usage, &table, discovered, n_discovered);
    assign_children(&table);
    result.n_sockets = host_cpus_n_sockets(usage->cpus);
    result.features = features(usage);
    result.n_unlisted = usage->n_unlisted;
    r = list_vms(&table, &result);
    if (r < 0)
        return r;
    add_processes(usage, &table, &result);
    take_others(usage, &result);
    r = memory_reader_sample(usage->memory, vms, &result);
    if (r < 0)
        log_warning("memory was not read", F_ERROR(r));
    remove_ended(usage, &table);
    process_table_deinit(&usage->known);
    usage->known = table;
    table = (struct process_table){0};
    *ret = result;
    result = (struct usage){0};
    return 0;
}

/* Reports of the kernel side. */

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
    if (bpf_programs_take_events(usage->programs, on_process, usage) < 0)
        usage->rescan_ns = 0;
    /* An exiting QEMU can take seconds to free its memory; recheck ended processes. */
    for (size_t i = 0; i < usage->known.n; i++)
        if (process_table_record(&usage->known, &usage->known.processes[i])->ended)
            on_process((pid_t)usage->known.processes[i].key.pid, usage);
    *ret = (struct process_changes){
        .all = now >= usage->rescan_ns,
        .pids = usage->changed,
        .n = usage->n_changed,
    };
    if (ret->all)
        usage->rescan_ns = now + RESCAN_NS;
}

/* The state for the next daemon: the set of programs, the CPUs, the processes, and the host. */
static int bpf_save(const struct usage_provider *provider, struct buffer *ret)
{
    const struct bpf_usage *usage = (const struct bpf_usage *)provider;
    const struct bpf_set *set = bpf_programs_set(usage->programs);
    int r = buffer_append(ret, set, sizeof(*set));

    if (r == 0)
        r = buffer_append(ret, usage->last_cpus, set->n_cpus * sizeof(*usage->last_cpus));
    if (r == 0)
        r = process_table_save(&usage->known, ret);
    return r < 0 ? r : host_cpus_save(usage->cpus, ret);
}

/* @param state  the part of the saved state that follows the set of programs */
static int restore(struct bpf_usage *usage, struct bytes *state)
{
    uint32_t n_cpus = bpf_programs_set(usage->programs)->n_cpus;
    const void *cpus = bytes_take(state, n_cpus, sizeof(*usage->last_cpus));
    int r;

    if (!cpus)
        return -EBADMSG;
    r = process_table_restore(&usage->known, state, bpf_programs_record_size(usage->programs));
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
    process_table_deinit(&usage->known);
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
        /* An offline CPU may turn out to be on any socket. */
        .n_sockets =
            host_cpus_all_online(usage->cpus) ? host_cpus_n_sockets(usage->cpus) : PACKAGES_MAX,
        .processes_max = config->processes_max,
        .counters = config->counters,
        .owners = config->owners,
        .descriptors = config->former.descriptors,
        .former_id = former_id,
    };
    int r = bpf_programs_new(&usage->programs, &programs);

    if (r < 0)
        return r;
    usage->last_cpus = calloc(bpf_programs_set(usage->programs)->n_cpus, sizeof(*usage->last_cpus));
    return usage->last_cpus ? 0 : -ENOMEM;
}

/* Continues a former daemon's programs from its saved state, or loads new ones. */
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
    process_table_deinit(&usage->known);
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
