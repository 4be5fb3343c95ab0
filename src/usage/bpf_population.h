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
struct member {
    struct vm_usage_key key;
    uuid_t uuid; /* of its VM, if it is claimed */
    bool claimed;
    bool found;         /* discovery lists it */
    uint64_t listed_ns; /* when it was seen first */
    size_t record;      /* index into the population's records */
    size_t before;      /* index of the same process in the last population, or NOT_BEFORE */
};

/* All of them, sorted by key. */
struct population {
    struct member *members;
    char *records;
    size_t record_size;
    size_t n;
};

/** By PID, then start time. */
int vm_usage_key_compare(const void *a, const void *b);

/** As the kernel side has it now. @return 0, then ret is the caller's; or a negative errno */
int population_read(struct bpf_programs *programs, struct population *ret);
void population_deinit(struct population *population);

/** @return NULL if it is not listed */
struct member *population_find(const struct population *population, const struct vm_usage_key *key);

static inline const struct vm_usage_process *population_record(const struct population *population,
                                                               const struct member *member)
{
    return (const void *)(population->records + member->record * population->record_size);
}

/** Appends it, for population_restore(). @return 0 or -ENOMEM */
int population_save(const struct population *population, struct buffer *ret);

/**
 * A population that a former process saved.
 * @param bytes        untrusted; the population is taken from it
 * @param record_size  of the programs that it was read from
 * @return 0, -EBADMSG or -ENOMEM
 */
int population_restore(struct population *ret, struct bytes *bytes, size_t record_size);
