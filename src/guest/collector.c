/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest/collector.h"

#include <errno.h>
#include <stdlib.h>

#include "guest/collect_csv.h"
#include "guest/energy_split.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* uW x ns, per uJ */
#define UW_NS_PER_UJ UINT64_C(1000000000)

struct moment {
    uint64_t time_ns;
    struct request_totals totals;
};

struct collector {
    FILE *stream;
    const char *label;
    const struct requests_config *config;
    bool failed; /* was logged */
    bool begun;  /* the two below are known */
    struct moment from;
    uint64_t from_energy_uj;
    size_t n; /* ever; the last SPLIT_POINTS are kept */
    struct moment moments[SPLIT_POINTS];
};

DEFINE_CLEANUP(struct collector *, collector_free);

int collector_new(struct collector **ret, const char *path, const char *label,
                  const struct requests_config *config)
{
    _cleanup_(cleanup_collector_free) struct collector *collector = calloc(1, sizeof(*collector));
    int r = -ENOMEM;

    if (!collector)
        return r;
    collector->label = label;
    collector->config = config;
    collector->stream = fopen(path, "we");
    r = collector->stream ? collect_csv_write_header(collector->stream) : -errno;
    if (r < 0) {
        log_error("rows cannot be collected", F_STRING("file", path), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(collector);
    return 0;
}

struct collector *collector_free(struct collector *collector)
{
    if (collector && collector->stream)
        fclose(collector->stream);
    free(collector);
    return NULL;
}

static const struct moment *kept(const struct collector *collector, size_t i)
{
    return &collector->moments[i % SPLIT_POINTS];
}

static uint64_t between(uint64_t a, uint64_t b, uint64_t part, uint64_t whole)
{
    return a + (uint64_t)((__uint128_t)(b - a) * part / whole);
}

static struct request_totals interpolate(const struct moment *a, const struct moment *b,
                                         uint64_t time_ns)
{
    uint64_t part = time_ns - a->time_ns, whole = b->time_ns - a->time_ns;
    const struct request_totals *from = &a->totals, *to = &b->totals;
    struct request_totals totals = {
        .work = between(from->work, to->work, part, whole),
        .runtime_ns = between(from->runtime_ns, to->runtime_ns, part, whole),
        .wakeups = between(from->wakeups, to->wakeups, part, whole),
        .migrations = between(from->migrations, to->migrations, part, whole),
    };

    for (size_t i = 0; i < REQUEST_COUNTERS; i++)
        totals.counted[i] = between(from->counted[i], to->counted[i], part, whole);
    return totals;
}

/* @return false: the moment is not between two that are kept */
static bool find_moment(const struct collector *collector, uint64_t time_ns, struct moment *ret)
{
    size_t last = collector->n - 1;
    size_t oldest = collector->n > SPLIT_POINTS ? collector->n - SPLIT_POINTS : 0;

    if (time_ns == kept(collector, last)->time_ns) {
        *ret = *kept(collector, last);
        return true;
    }
    while (last > oldest && kept(collector, last - 1)->time_ns > time_ns)
        last--;
    if (last == oldest)
        return false;
    *ret = (struct moment){
        .time_ns = time_ns,
        .totals = interpolate(kept(collector, last - 1), kept(collector, last), time_ns),
    };
    return true;
}

static void write_row(struct collector *collector, const struct moment *to, uint64_t energy_uj)
{
    const struct request_totals *a = &collector->from.totals, *b = &to->totals;
    uint64_t interval_ns = to->time_ns - collector->from.time_ns;
    uint64_t idle_uj =
        (uint64_t)((__uint128_t)collector->config->idle_power_uw * interval_ns / UW_NS_PER_UJ);
    struct collect_row row = {
        .sample_time_ns = clock_ns(CLOCK_REALTIME) - (now_ns() - to->time_ns),
        .mode = collector->config->mode,
        .interval_ns = interval_ns,
        .interval_psys_uj = energy_uj,
        .idle_uj = idle_uj < energy_uj ? idle_uj : energy_uj,
        .total_score = (b->work - a->work) >> REQUEST_WORK_BITS,
        .runtime_ns = b->runtime_ns - a->runtime_ns,
        .wakeups = b->wakeups - a->wakeups,
        .cycles = b->counted[REQUEST_CYCLES] - a->counted[REQUEST_CYCLES],
        .instructions = b->counted[REQUEST_INSTRUCTIONS] - a->counted[REQUEST_INSTRUCTIONS],
        .cache_misses = b->counted[REQUEST_CACHE_MISSES] - a->counted[REQUEST_CACHE_MISSES],
        .migrations = b->migrations - a->migrations,
    };
    int r;

    row.active_psys_uj = energy_uj - row.idle_uj;
    r = collect_csv_write_row(collector->stream, collector->label, &row);
    if (r < 0 && !collector->failed)
        log_warning("rows cannot be written", F_ERROR(r));
    collector->failed = r < 0;
}

void collector_add(struct collector *collector, uint64_t time_ns,
                   const struct request_totals *totals, const struct power_tree_reading *reading)
{
    struct moment to;

    collector->moments[collector->n++ % SPLIT_POINTS] =
        (struct moment){.time_ns = time_ns, .totals = *totals};
    if (reading->reset)
        collector->begun = false;
    if (!reading->known || reading->delay_ns > time_ns ||
        !find_moment(collector, time_ns - reading->delay_ns, &to))
        return;
    /* A delay that grew: this moment has its row already. */
    if (collector->begun && to.time_ns <= collector->from.time_ns)
        return;
    if (collector->begun)
        write_row(collector, &to, reading->energy_uj - collector->from_energy_uj);
    collector->from = to;
    collector->from_energy_uj = reading->energy_uj;
    collector->begun = true;
}
