/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The processes that the kernel side lists, with what they had used at one
 * moment.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uuid/uuid.h>

#include "shared/vm_usage.h"
#include "usage/bpf_programs.h"
#include "util/buffer.h"

#define NOT_BEFORE SIZE_MAX

/* A listed process. */
struct tracked_process {
    struct vm_usage_key key;
    uuid_t uuid; /* of its VM, if it is assigned to one */
    bool assigned;
    bool found;         /* discovery lists it */
    uint64_t listed_ns; /* when it was seen first */
    size_t record;      /* index into the table's records */
    size_t before;      /* index of the same process in the last table, or NOT_BEFORE */
};

/* All of them, sorted by key. */
struct process_table {
    struct tracked_process *processes;
    char *records;
    size_t record_size;
    size_t n;
};

/** By PID, then start time. */
int vm_usage_key_compare(const void *a, const void *b);

/** As the kernel side has it now. @return 0, then ret is the caller's; or a negative errno */
int process_table_read(struct bpf_programs *programs, struct process_table *ret);
void process_table_deinit(struct process_table *table);

/** @return NULL if it is not listed */
struct tracked_process *process_table_find(const struct process_table *table,
                                           const struct vm_usage_key *key);

static inline const struct vm_usage_process *
process_table_record(const struct process_table *table, const struct tracked_process *process)
{
    return (const void *)(table->records + process->record * table->record_size);
}

/** Appends it, for process_table_restore(). @return 0 or -ENOMEM */
int process_table_save(const struct process_table *table, struct buffer *ret);

/**
 * The table that a former process saved.
 * @param bytes        untrusted; the table is taken from it
 * @param record_size  of the programs that it was read from
 * @return 0, -EBADMSG or -ENOMEM
 */
int process_table_restore(struct process_table *ret, struct bytes *bytes, size_t record_size);
