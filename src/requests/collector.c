/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/collector.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "requests/collect_csv.h"
#include "requests/work_price.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

struct moment {
    uint64_t time_ns;
    struct request_totals totals;
    size_t n_frequencies;
    struct request_frequency_time *frequencies; /* owned */
};

struct collector {
    FILE *stream;
    const char *label;
    const struct request_config *config;
    bool failed; /* and that was logged */
    bool begun;  /* the two below are known */
    struct moment from;
    uint64_t from_energy_uj;
    size_t n; /* ever; the last PRICE_POINTS are kept */
    struct moment moments[PRICE_POINTS];
};

DEFINE_CLEANUP(struct collector *, collector_free);

int collector_new(struct collector **ret, const char *path, const char *label,
                  const struct request_config *config)
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
    if (!collector)
        return NULL;
    if (collector->stream)
        fclose(collector->stream);
    free(collector->from.frequencies);
    for (size_t i = 0; i < PRICE_POINTS; i++)
        free(collector->moments[i].frequencies);
    free(collector);
    return NULL;
}

static struct moment *kept(struct collector *collector, size_t i)
{
    return &collector->moments[i % PRICE_POINTS];
}

/* A frequency that is missing was not used yet. */
static uint64_t runtime_at(const struct moment *moment, uint32_t khz)
{
    for (size_t i = 0; i < moment->n_frequencies; i++)
        if (moment->frequencies[i].khz == khz)
            return moment->frequencies[i].runtime_ns;
    return 0;
}

static int copy_frequencies(struct moment *moment, size_t n,
                            const struct request_frequency_time *frequencies)
{
    /* One more, as n may be 0. */
    moment->frequencies = calloc(n + 1, sizeof(*moment->frequencies));
    if (!moment->frequencies)
        return -ENOMEM;
    moment->n_frequencies = n;
    if (n > 0)
        memcpy(moment->frequencies, frequencies, n * sizeof(*frequencies));
    return 0;
}

/* @param time_ns  after a, b at the latest */
static int interpolate(const struct moment *a, const struct moment *b, uint64_t time_ns,
                       struct moment *ret)
{
    uint64_t part = time_ns - a->time_ns, whole = b->time_ns - a->time_ns;
    const struct request_totals *from = &a->totals, *to = &b->totals;
    struct moment moment = {
        .time_ns = time_ns,
        .totals =
            {
                .work = value_between(from->work, to->work, part, whole),
                .runtime_ns = value_between(from->runtime_ns, to->runtime_ns, part, whole),
                .wakeups = value_between(from->wakeups, to->wakeups, part, whole),
                .migrations = value_between(from->migrations, to->migrations, part, whole),
            },
    };
    int r = copy_frequencies(&moment, b->n_frequencies, b->frequencies);

    if (r < 0)
        return r;
    for (size_t i = 0; i < REQUEST_COUNTERS; i++)
        moment.totals.counted[i] = value_between(from->counted[i], to->counted[i], part, whole);
    for (size_t i = 0; i < moment.n_frequencies; i++) {
        struct request_frequency_time *time = &moment.frequencies[i];

        time->runtime_ns = value_between(runtime_at(a, time->khz), time->runtime_ns, part, whole);
    }
    *ret = moment;
    return 0;
}

/* @return 0; -ENODATA: the moment is not between two that are kept; -ENOMEM */
static int find_moment(struct collector *collector, uint64_t time_ns, struct moment *ret)
{
    size_t last = collector->n - 1;
    size_t oldest = collector->n > PRICE_POINTS ? collector->n - PRICE_POINTS : 0;

    while (last > oldest && kept(collector, last - 1)->time_ns >= time_ns)
        last--;
    if (last == oldest)
        return -ENODATA;
    return interpolate(kept(collector, last - 1), kept(collector, last), time_ns, ret);
}

static void write_row(struct collector *collector, const struct moment *to, uint64_t energy_uj)
{
    const struct moment *from = &collector->from;
    const struct request_totals *a = &from->totals, *b = &to->totals;
    struct request_frequency_time frequencies[REQUEST_FREQUENCIES_MAX];
    uint64_t interval_ns = to->time_ns - from->time_ns;
    uint64_t idle_uj = idle_energy_uj(collector->config->idle_power_uw, interval_ns);
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
        .n_frequencies = to->n_frequencies,
        .frequencies = frequencies,
    };
    int r;

    for (size_t i = 0; i < to->n_frequencies; i++) {
        frequencies[i] = to->frequencies[i];
        frequencies[i].runtime_ns -= runtime_at(from, frequencies[i].khz);
    }
    row.active_psys_uj = energy_uj - row.idle_uj;
    r = collect_csv_write_row(collector->stream, collector->label, &row);
    if (r < 0 && !collector->failed)
        log_warning("rows cannot be written", F_ERROR(r));
    collector->failed = r < 0;
}

static int keep(struct collector *collector, uint64_t time_ns, const struct collect_work *work)
{
    struct moment moment = {.time_ns = time_ns, .totals = work->totals};
    int r = copy_frequencies(&moment, work->n_frequencies, work->frequencies);

    if (r < 0)
        return r;
    free(kept(collector, collector->n)->frequencies);
    *kept(collector, collector->n++) = moment;
    return 0;
}

void collector_add(struct collector *collector, uint64_t time_ns, const struct collect_work *work,
                   const struct powercap_energy *energy)
{
    struct moment to;

    if (energy->reset)
        collector->begun = false;
    /* Without memory for this moment the next interval is longer. */
    if (keep(collector, time_ns, work) < 0 || !energy->known || energy->delay_ns > time_ns)
        return;
    /* Where the delay grew, this moment has its row already. */
    if (collector->begun && time_ns - energy->delay_ns <= collector->from.time_ns)
        return;
    if (find_moment(collector, time_ns - energy->delay_ns, &to) < 0)
        return;
    if (collector->begun)
        write_row(collector, &to, energy->energy_uj - collector->from_energy_uj);
    free(collector->from.frequencies);
    collector->from = to;
    collector->from_energy_uj = energy->energy_uj;
    collector->begun = true;
}
