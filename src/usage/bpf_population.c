/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf_population.h"

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

void population_deinit(struct population *population)
{
    free(population->members);
    free(population->records);
    *population = (struct population){0};
}

static int population_init(struct population *population, size_t n, size_t record_size)
{
    *population = (struct population){.record_size = record_size, .n = n};
    population->members = calloc(n + 1, sizeof(*population->members));
    population->records = malloc(n * record_size + 1);
    if (population->members && population->records)
        return 0;
    population_deinit(population);
    return -ENOMEM;
}

struct member *population_find(const struct population *population, const struct vm_usage_key *key)
{
    if (population->n == 0)
        return NULL;
    return bsearch(key, population->members, population->n, sizeof(*population->members),
                   vm_usage_key_compare);
}

int population_read(struct bpf_programs *programs, struct population *ret)
{
    size_t n, record_size = bpf_programs_record_size(programs);
    const struct vm_usage_key *keys;
    const char *records;
    uint64_t now = now_ns();
    int r = bpf_programs_read(programs, &keys, &records, &n);

    if (r == 0)
        r = population_init(ret, n, record_size);
    if (r < 0)
        return r;
    memcpy(ret->records, records, n * record_size);
    for (size_t i = 0; i < n; i++)
        ret->members[i] =
            (struct member){.key = keys[i], .listed_ns = now, .record = i, .before = NOT_BEFORE};
    qsort(ret->members, n, sizeof(*ret->members), vm_usage_key_compare);
    return 0;
}

/* A member as it is saved; its record follows. */
struct saved_member {
    struct vm_usage_key key;
    uuid_t uuid;
    uint64_t claimed;
    uint64_t listed_ns;
};

int population_save(const struct population *population, struct buffer *ret)
{
    uint64_t n = population->n;
    int r = buffer_append(ret, &n, sizeof(n));

    for (size_t i = 0; i < population->n && r == 0; i++) {
        const struct member *member = &population->members[i];
        struct saved_member saved = {
            .key = member->key, .claimed = member->claimed, .listed_ns = member->listed_ns};

        uuid_copy(saved.uuid, member->uuid);
        r = buffer_append(ret, &saved, sizeof(saved));
        if (r == 0)
            r = buffer_append(ret, population_record(population, member), population->record_size);
    }
    return r;
}

static bool is_sorted(const struct population *population)
{
    for (size_t i = 1; i < population->n; i++)
        if (vm_usage_key_compare(&population->members[i - 1].key, &population->members[i].key) >= 0)
            return false;
    return true;
}

int population_restore(struct population *ret, struct bytes *bytes, size_t record_size)
{
    const uint64_t *n = bytes_take(bytes, 1, sizeof(*n));
    size_t size = sizeof(struct saved_member) + record_size;
    const char *records = n ? bytes_take(bytes, *n, size) : NULL;

    if (!records)
        return -EBADMSG;
    if (population_init(ret, *n, record_size) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < *n; i++, records += size) {
        const struct saved_member *saved = (const void *)records;

        ret->members[i] = (struct member){.key = saved->key,
                                          .claimed = saved->claimed,
                                          .listed_ns = saved->listed_ns,
                                          .record = i,
                                          .before = NOT_BEFORE};
        uuid_copy(ret->members[i].uuid, saved->uuid);
        memcpy(ret->records + i * record_size, saved + 1, record_size);
    }
    if (is_sorted(ret))
        return 0;
    population_deinit(ret);
    return -EBADMSG;
}
