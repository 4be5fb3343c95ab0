/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/libvirt_metadata.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt/energy_metadata.h"
#include "util/clock.h"
#include "util/log.h"

#define RENEW_NS (60 * NSEC_PER_SEC)
/* When to write again: a domain that was leaving, and one that refused the write. */
#define BUSY_RETRY_NS (2 * NSEC_PER_SEC)
#define FAILED_RETRY_NS (60 * NSEC_PER_SEC)
/* How long a ceiling holds although libvirt does not answer: a guest's counter must go on. */
#define CEILING_TIMEOUT_NS (3 * NSEC_PER_SEC)
#define WRITES_AT_ONCE 32

struct entry {
    struct vm_departure departure;
    bool is_written; /* the domain's metadata holds this bound: */
    uint64_t bound_uj[ZONE_KINDS];
    bool is_busy;      /* libvirt runs a long job on it: it may be leaving */
    uint64_t renew_ns; /* when the written metadata is too old */
    uint64_t retry_ns; /* no write before this time */
    uint64_t since_ns; /* since when a write is due; 0: none is */
};

struct libvirt_metadata {
    pthread_mutex_t lock;
    bool writable;
    struct entry *entries; /* sorted by UUID */
    size_t n;
    bool failure_logged; /* used by libvirt's thread only */
};

int libvirt_metadata_new(struct libvirt_metadata **ret)
{
    struct libvirt_metadata *metadata_sync = calloc(1, sizeof(*metadata_sync));

    if (!metadata_sync)
        return -ENOMEM;
    pthread_mutex_init(&metadata_sync->lock, NULL);
    *ret = metadata_sync;
    return 0;
}

struct libvirt_metadata *libvirt_metadata_free(struct libvirt_metadata *metadata_sync)
{
    if (!metadata_sync)
        return NULL;
    pthread_mutex_destroy(&metadata_sync->lock);
    free(metadata_sync->entries);
    free(metadata_sync);
    return NULL;
}

/* The tick's side. */

static int compare_departures(const void *a, const void *b)
{
    return uuid_compare(((const struct vm_departure *)a)->uuid,
                        ((const struct vm_departure *)b)->uuid);
}

static int compare_key(const void *key, const void *element)
{
    return uuid_compare(key, ((const struct entry *)element)->departure.uuid);
}

/* Under the lock. */
static struct entry *find_entry(const struct libvirt_metadata *metadata_sync, const uuid_t uuid)
{
    if (metadata_sync->n == 0)
        return NULL;
    return bsearch(uuid, metadata_sync->entries, metadata_sync->n, sizeof(*metadata_sync->entries),
                   compare_key);
}

/* Whether the written bound is about to be passed, or too old. */
static bool needs_write(const struct entry *entry, uint64_t now)
{
    const struct vm_departure *departure = &entry->departure;
    bool has_energy = false, is_low = false;

    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        has_energy |= departure->energy.bound_uj[kind] > 0;
        is_low |= departure->need_uj[kind] > entry->bound_uj[kind];
    }
    return has_energy && (!entry->is_written || is_low || now >= entry->renew_ns);
}

static bool is_due(const struct entry *entry, uint64_t now)
{
    return entry->since_ns > 0 && now >= entry->retry_ns;
}

static void fill_ceiling(const struct entry *entry, uint64_t now, struct vm_departure *departure)
{
    bool in_time = entry->since_ns == 0 || now < entry->since_ns + CEILING_TIMEOUT_NS;
    bool holds = entry->is_written && (entry->is_busy || in_time);

    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        departure->ceiling_uj[kind] = holds ? entry->bound_uj[kind] : UINT64_MAX;
}

bool libvirt_metadata_offer(struct libvirt_metadata *metadata_sync, struct vm_departure *departures,
                            size_t n, uint64_t now)
{
    struct entry *entries = calloc(n + 1, sizeof(*entries)), *old;
    bool is_due_any = false;

    if (!entries)
        return false;
    qsort(departures, n, sizeof(*departures), compare_departures);
    pthread_mutex_lock(&metadata_sync->lock);
    for (size_t i = 0; i < n; i++) {
        const struct entry *before = find_entry(metadata_sync, departures[i].uuid);

        if (before && before->departure.start_number == departures[i].start_number)
            entries[i] = *before;
        entries[i].departure = departures[i];
        if (entries[i].since_ns == 0 && needs_write(&entries[i], now))
            entries[i].since_ns = now;
        is_due_any |= is_due(&entries[i], now);
        fill_ceiling(&entries[i], now, &departures[i]);
    }
    old = metadata_sync->entries;
    metadata_sync->entries = entries;
    metadata_sync->n = n;
    is_due_any = is_due_any && metadata_sync->writable;
    pthread_mutex_unlock(&metadata_sync->lock);
    free(old);
    return is_due_any;
}

/* libvirt's side. */

/* Takes the next domain whose write is due. From now on the lower of both bounds holds. */
static bool take_due(struct libvirt_metadata *metadata_sync, uint64_t now, struct vm_departure *ret)
{
    bool found = false;

    pthread_mutex_lock(&metadata_sync->lock);
    for (size_t i = 0; i < metadata_sync->n && metadata_sync->writable && !found; i++) {
        struct entry *entry = &metadata_sync->entries[i];

        if (!is_due(entry, now))
            continue;
        found = true;
        *ret = entry->departure;
        for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
            if (ret->energy.bound_uj[kind] < entry->bound_uj[kind])
                entry->bound_uj[kind] = ret->energy.bound_uj[kind];
    }
    pthread_mutex_unlock(&metadata_sync->lock);
    return found;
}

/* A failure is logged once for each connection. */
static enum metadata_result write_departure(struct libvirt_metadata *metadata_sync,
                                            struct metadata_writer *writer,
                                            const struct vm_departure *departure)
{
    struct metadata_record record = {
        .start_number = departure->start_number,
        .energy = departure->energy,
    };
    struct metadata_answer answer;

    uuid_copy(record.uuid, departure->uuid);
    answer = metadata_writer_write(writer, &record);
    if (answer.result == METADATA_FAILED && !metadata_sync->failure_logged) {
        log_warning("libvirt does not keep the VMs' energy: it is not continued on other hosts",
                    F_STRING("error", answer.problem));
        metadata_sync->failure_logged = true;
    }
    return answer.result;
}

/* The VM may have ended meanwhile. */
static void note_result(struct libvirt_metadata *metadata_sync,
                        const struct vm_departure *departure, enum metadata_result result,
                        uint64_t now)
{
    struct entry *entry;

    pthread_mutex_lock(&metadata_sync->lock);
    entry = find_entry(metadata_sync, departure->uuid);
    if (entry && entry->departure.start_number == departure->start_number) {
        entry->is_busy = result == METADATA_BUSY;
        entry->retry_ns = result == METADATA_WRITTEN ? 0
                          : result == METADATA_BUSY  ? now + BUSY_RETRY_NS
                                                     : now + FAILED_RETRY_NS;
        if (result == METADATA_WRITTEN) {
            memcpy(entry->bound_uj, departure->energy.bound_uj, sizeof(entry->bound_uj));
            entry->renew_ns = now + RENEW_NS;
            entry->since_ns = 0;
        }
        if (result != METADATA_BUSY)
            entry->is_written = result == METADATA_WRITTEN;
    }
    pthread_mutex_unlock(&metadata_sync->lock);
}

bool libvirt_metadata_write(struct libvirt_metadata *metadata_sync, struct metadata_writer *writer)
{
    struct vm_departure departure;

    for (unsigned i = 0; i < WRITES_AT_ONCE; i++) {
        if (!take_due(metadata_sync, now_ns(), &departure))
            return false;
        note_result(metadata_sync, &departure, write_departure(metadata_sync, writer, &departure),
                    now_ns());
    }
    return true;
}

void libvirt_metadata_touch(struct libvirt_metadata *metadata_sync, const uuid_t uuid)
{
    struct entry *entry;

    pthread_mutex_lock(&metadata_sync->lock);
    entry = find_entry(metadata_sync, uuid);
    if (entry)
        entry->renew_ns = entry->retry_ns = 0;
    pthread_mutex_unlock(&metadata_sync->lock);
}

void libvirt_metadata_set_connected(struct libvirt_metadata *metadata_sync, bool writable)
{
    pthread_mutex_lock(&metadata_sync->lock);
    metadata_sync->writable = writable;
    for (size_t i = 0; i < metadata_sync->n; i++)
        metadata_sync->entries[i] =
            (struct entry){.departure = metadata_sync->entries[i].departure};
    pthread_mutex_unlock(&metadata_sync->lock);
    metadata_sync->failure_logged = false;
}

static const char *problem_text(int error)
{
    switch (error) {
    case -EPROTONOSUPPORT:
        return "of another version";
    case -ERANGE:
        return "more energy than there can be";
    default:
        return "not of the form";
    }
}

static void parse_arrival(virDomainPtr domain, const char *text, struct vm_arrival *arrival)
{
    static const uint8_t unknown[16];
    struct energy_metadata metadata;
    uint8_t machine[16];
    uuid_t uuid;
    int r = energy_metadata_parse(text, strlen(text), &metadata);

    if (r < 0)
        log_warning("a domain's energy metadata cannot be used: its counter does not continue",
                    F_STRING("domain", virDomainGetName(domain)),
                    F_STRING("problem", problem_text(r)), F_STRING("metadata", text));
    /* Metadata copied with another domain's XML belongs to that domain. */
    if (r < 0 || virDomainGetUUID(domain, uuid) < 0 || uuid_compare(metadata.uuid, uuid) != 0)
        return;
    metadata_machine(machine);
    arrival->present = true;
    arrival->own = memcmp(machine, unknown, sizeof(machine)) != 0 &&
                   memcmp(metadata.machine, machine, sizeof(machine)) == 0;
    arrival->energy = metadata.energy;
}

bool libvirt_metadata_read(virDomainPtr domain, struct vm_arrival *ret)
{
    char *text = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, ENERGY_METADATA_URI,
                                      VIR_DOMAIN_AFFECT_LIVE);

    *ret = (struct vm_arrival){0};
    if (!text)
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA;
    parse_arrival(domain, text, ret);
    free(text);
    return true;
}
