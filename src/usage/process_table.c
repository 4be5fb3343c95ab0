/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/process_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"

int vm_usage_key_compare(const void *a, const void *b)
{
    const struct vm_usage_key *x = a, *y = b;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return (x->start_ticks > y->start_ticks) - (x->start_ticks < y->start_ticks);
}

void process_table_deinit(struct process_table *table)
{
    free(table->processes);
    free(table->records);
    *table = (struct process_table){0};
}

static int process_table_init(struct process_table *table, size_t n, size_t record_size)
{
    *table = (struct process_table){.record_size = record_size, .n = n};
    table->processes = calloc(n + 1, sizeof(*table->processes));
    table->records = malloc(n * record_size + 1);
    if (table->processes && table->records)
        return 0;
    process_table_deinit(table);
    return -ENOMEM;
}

struct tracked_process *process_table_find(const struct process_table *table,
                                           const struct vm_usage_key *key)
{
    if (table->n == 0)
        return NULL;
    return bsearch(key, table->processes, table->n, sizeof(*table->processes),
                   vm_usage_key_compare);
}

int process_table_read(struct bpf_programs *programs, struct process_table *ret)
{
    size_t n, record_size = bpf_programs_record_size(programs);
    const struct vm_usage_key *keys;
    const char *records;
    uint64_t now = now_ns();
    int r = bpf_programs_read(programs, &keys, &records, &n);

    if (r == 0)
        r = process_table_init(ret, n, record_size);
    if (r < 0)
        return r;
    memcpy(ret->records, records, n * record_size);
    for (size_t i = 0; i < n; i++)
        ret->processes[i] = (struct tracked_process){
            .key = keys[i], .listed_ns = now, .record = i, .before = NOT_BEFORE};
    qsort(ret->processes, n, sizeof(*ret->processes), vm_usage_key_compare);
    return 0;
}

/* A process as it is saved; its record follows. */
struct saved_process {
    struct vm_usage_key key;
    uuid_t uuid;
    uint64_t assigned;
    uint64_t listed_ns;
};

int process_table_save(const struct process_table *table, struct buffer *ret)
{
    uint64_t n = table->n;
    int r = buffer_append(ret, &n, sizeof(n));

    for (size_t i = 0; i < table->n && r == 0; i++) {
        const struct tracked_process *process = &table->processes[i];
        struct saved_process saved = {
            .key = process->key, .assigned = process->assigned, .listed_ns = process->listed_ns};

        uuid_copy(saved.uuid, process->uuid);
        r = buffer_append(ret, &saved, sizeof(saved));
        if (r == 0)
            r = buffer_append(ret, process_table_record(table, process), table->record_size);
    }
    return r;
}

static bool is_sorted(const struct process_table *table)
{
    for (size_t i = 1; i < table->n; i++)
        if (vm_usage_key_compare(&table->processes[i - 1].key, &table->processes[i].key) >= 0)
            return false;
    return true;
}

int process_table_restore(struct process_table *ret, struct bytes *bytes, size_t record_size)
{
    const uint64_t *n = bytes_take(bytes, 1, sizeof(*n));
    size_t size = sizeof(struct saved_process) + record_size;
    const char *records = n ? bytes_take(bytes, *n, size) : NULL;

    if (!records)
        return -EBADMSG;
    if (process_table_init(ret, *n, record_size) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < *n; i++, records += size) {
        const struct saved_process *saved = (const void *)records;

        ret->processes[i] = (struct tracked_process){.key = saved->key,
                                                     .assigned = saved->assigned,
                                                     .listed_ns = saved->listed_ns,
                                                     .record = i,
                                                     .before = NOT_BEFORE};
        uuid_copy(ret->processes[i].uuid, saved->uuid);
        memcpy(ret->records + i * record_size, saved + 1, record_size);
    }
    if (is_sorted(ret))
        return 0;
    process_table_deinit(ret);
    return -EBADMSG;
}
