/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

#include "memory/memory_probe.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/watchdog.h"

/* CPU time of one call: a thousandth of a tick of 1 s. */
#define BUDGET_NS ((int64_t)NSEC_PER_MSEC)
/* A VM is examined again after this many readings. */
#define READINGS_PER_EXAMINATION 16

/* A VM that runs according to the table. */
struct entry {
    TAILQ_ENTRY(entry) queue;
    uuid_t uuid;
    struct process_id qemu; /* another process means that the VM was started again */
    struct vm_memory memory;
    struct usage_amount *usage; /* in the current call, or NULL */
    bool queued;
    bool listed; /* in the current table */
    unsigned readings;
    uint64_t read_in; /* call in which it was read last; 0: never */
};

TAILQ_HEAD(entry_queue, entry);

struct memory_reader {
    struct memory_probe source;
    struct entry **entries; /* sorted by UUID */
    size_t n;
    struct entry_queue
        queue; /* the same entries: first those never read, then by age of the last reading */
    uint64_t call;
    int64_t walk_credit_ns; /* CPU time left for page tables; negative after a long walk */
};

int memory_reader_new(struct memory_reader **ret, const char *proc_root, const char *sysfs_root,
                      const struct topology *topology)
{
    _cleanup_free_ struct memory_reader *reader = calloc(1, sizeof(*reader));
    int r;

    if (!reader)
        return -ENOMEM;
    r = memory_probe_open(&reader->source, proc_root, sysfs_root);
    if (r < 0) {
        log_error("cannot read memory", F_STRING("directory", proc_root), F_ERROR(r));
        return r;
    }
    reader->source.topology = topology;
    TAILQ_INIT(&reader->queue);
    *ret = TAKE_PTR(reader);
    return 0;
}

static void entry_free(struct memory_reader *reader, struct entry *entry)
{
    if (entry->queued)
        TAILQ_REMOVE(&reader->queue, entry, queue);
    vm_memory_reset(&entry->memory);
    free(entry);
}

struct memory_reader *memory_reader_free(struct memory_reader *reader)
{
    if (reader) {
        for (size_t i = 0; i < reader->n; i++)
            entry_free(reader, reader->entries[i]);
        free(reader->entries);
        memory_probe_close(&reader->source);
        free(reader);
    }
    return NULL;
}

/* The QEMU process that identifies this start of the VM, or NULL while it is off. */
static const struct vm_process *find_qemu(const struct vm *vm)
{
    for (size_t i = 0; i < vm->n_processes; i++)
        if (vm->processes[i].role == VM_PROCESS_QEMU)
            return &vm->processes[i];
    return NULL;
}

/* The entries of the table's running VMs, in its order: old ones, and new ones not queued yet. */
static int list_entries(const struct memory_reader *reader, const struct vm_table *vms,
                        struct entry **ret, size_t *ret_n)
{
    size_t old = 0;

    for (size_t i = 0; i < vms->n; i++) {
        const struct vm *vm = &vms->vms[i];
        struct entry *entry = NULL;

        if (!find_qemu(vm))
            continue;
        while (old < reader->n && uuid_compare(reader->entries[old]->uuid, vm->uuid) < 0)
            old++;
        if (old < reader->n && uuid_compare(reader->entries[old]->uuid, vm->uuid) == 0)
            entry = reader->entries[old];
        if (!entry)
            entry = calloc(1, sizeof(*entry));
        if (!entry)
            return -ENOMEM;
        uuid_copy(entry->uuid, vm->uuid);
        entry->listed = true;
        entry->memory.vm = vm;
        ret[(*ret_n)++] = entry;
    }
    return 0;
}

/* Moves the entry to the head of the queue if it was never read, or its VM was started again. */
static void enqueue(struct memory_reader *reader, struct entry *entry)
{
    const struct process_id *qemu = &find_qemu(entry->memory.vm)->id;

    if (entry->queued) {
        if (entry->qemu.pid == qemu->pid && entry->qemu.start_ticks == qemu->start_ticks)
            return;
        TAILQ_REMOVE(&reader->queue, entry, queue);
        vm_memory_reset(&entry->memory);
        entry->readings = 0;
    }
    entry->qemu = *qemu;
    TAILQ_INSERT_HEAD(&reader->queue, entry, queue);
    entry->queued = true;
}

static int follow_table(struct memory_reader *reader, const struct vm_table *vms)
{
    struct entry **list = calloc(vms->n ? vms->n : 1, sizeof(*list));
    size_t n = 0;
    int r = list ? 0 : -ENOMEM;

    for (size_t i = 0; i < reader->n; i++)
        reader->entries[i]->listed = false;
    if (r == 0)
        r = list_entries(reader, vms, list, &n);
    if (r < 0) {
        for (size_t i = 0; i < n; i++)
            if (!list[i]->queued)
                entry_free(reader, list[i]);
        free(list);
        return r;
    }
    for (size_t i = 0; i < reader->n; i++)
        if (!reader->entries[i]->listed)
            entry_free(reader, reader->entries[i]);
    free(reader->entries);
    reader->entries = list;
    reader->n = n;
    for (size_t i = 0; i < n; i++)
        enqueue(reader, list[i]);
    return 0;
}

/* Both are sorted by UUID. */
static void match_usage(struct memory_reader *reader, struct usage *usage)
{
    size_t v = 0;

    for (size_t i = 0; i < reader->n; i++) {
        struct entry *entry = reader->entries[i];

        while (v < usage->n_vms && uuid_compare(usage->vms[v].uuid, entry->uuid) < 0)
            v++;
        entry->usage = v < usage->n_vms && uuid_compare(usage->vms[v].uuid, entry->uuid) == 0
                           ? &usage->vms[v].amount
                           : NULL;
    }
}

/* Marks a scope that holds two VMs: it gives the memory of neither. */
static void find_shared_scope(struct memory_reader *reader, struct entry *entry)
{
    for (size_t i = 0; i < reader->n && entry->memory.scope; i++) {
        struct vm_memory *other = &reader->entries[i]->memory;

        if (other != &entry->memory && other->scope &&
            strcmp(other->scope, entry->memory.scope) == 0) {
            other->scope_shared = true;
            entry->memory.scope_shared = true;
        }
    }
}

/* @return CPU time of walking its page tables */
static uint64_t read_entry(struct memory_reader *reader, struct entry *entry)
{
    uint64_t walk_ns;

    if (entry->readings++ % READINGS_PER_EXAMINATION == 0) {
        memory_probe_examine(&reader->source, &entry->memory);
        find_shared_scope(reader, entry);
    }
    walk_ns = memory_probe_read(&reader->source, &entry->memory, entry->usage,
                                reader->walk_credit_ns > 0);
    entry->read_in = reader->call;
    TAILQ_REMOVE(&reader->queue, entry, queue);
    TAILQ_INSERT_TAIL(&reader->queue, entry, queue);
    return walk_ns;
}

/* Reads VMs in the queue's order, at least one, until the budget is spent or all are read. Page
 * tables have a budget of the same size; one walk may exceed it. */
static void read_entries(struct memory_reader *reader)
{
    int64_t end_ns = (int64_t)clock_ns(CLOCK_THREAD_CPUTIME_ID) + BUDGET_NS;
    struct entry *entry;

    reader->call++;
    reader->walk_credit_ns += BUDGET_NS;
    if (reader->walk_credit_ns > BUDGET_NS)
        reader->walk_credit_ns = BUDGET_NS;
    while ((entry = TAILQ_FIRST(&reader->queue)) && entry->read_in != reader->call) {
        int64_t walk_ns = (int64_t)read_entry(reader, entry);

        watchdog_feed();
        reader->walk_credit_ns -= walk_ns;
        end_ns += walk_ns;
        if ((int64_t)clock_ns(CLOCK_THREAD_CPUTIME_ID) >= end_ns)
            break;
    }
}

static void fill_host(const struct memory_reader *reader, struct usage *usage)
{
    uint64_t used[PACKAGES_MAX] = {0};

    memory_probe_read_host(&reader->source, used);
    for (unsigned s = 0; s < PACKAGES_MAX; s++) {
        for (size_t i = 0; i < usage->n_vms; i++) {
            uint64_t of_vm = usage->vms[i].amount.sockets[s].memory_bytes;

            used[s] -= of_vm < used[s] ? of_vm : used[s];
        }
        usage->host.sockets[s].memory_bytes = used[s];
    }
}

int memory_reader_sample(struct memory_reader *reader, const struct vm_table *vms,
                         struct usage *usage)
{
    int r = follow_table(reader, vms);

    match_usage(reader, usage);
    if (r == 0)
        read_entries(reader);
    for (size_t i = 0; i < usage->n_vms; i++)
        for (unsigned s = 0; s < PACKAGES_MAX; s++)
            usage->vms[i].amount.sockets[s].memory_bytes = 0;
    for (size_t i = 0; i < reader->n; i++) {
        struct usage_amount *amount = reader->entries[i]->usage;

        for (unsigned s = 0; amount && s < PACKAGES_MAX; s++)
            amount->sockets[s].memory_bytes = reader->entries[i]->memory.bytes[s];
    }
    fill_host(reader, usage);
    return r;
}
