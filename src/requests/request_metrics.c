/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/request_metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"
#include "util/metrics_text.h"

#define ENERGY_METRIC "virtjoule_request_energy_joules"
#define ROUTE_OTHER "other"
#define SEGMENTS_MAX 3

/* RFC 9110, section 9, and PATCH; the last stands for all others. */
static const char *const methods[] = {"GET",     "HEAD",    "POST",  "PUT",   "DELETE",
                                      "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"};
#define N_METHODS ARRAY_SIZE(methods)

static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
#define N_CLASSES ARRAY_SIZE(classes)

static const struct {
    uint64_t uj;
    const char *joules;
} bounds[] = {
    {10, "1e-05"},   {30, "3e-05"},   {100, "0.0001"},  {300, "0.0003"},  {1000, "0.001"},
    {3000, "0.003"}, {10000, "0.01"}, {30000, "0.03"},  {100000, "0.1"},  {300000, "0.3"},
    {1000000, "1"},  {3000000, "3"},  {10000000, "10"}, {30000000, "30"},
};
#define N_BOUNDS ARRAY_SIZE(bounds)

struct series {
    unsigned method, class;
    char route[REQUEST_ROUTE_MAX];
    uint64_t buckets[N_BOUNDS + 1];
    uint64_t sum_uj;
};

#define SERIES_ALL (REQUEST_SERIES_MAX + N_METHODS * N_CLASSES)

struct request_metrics {
    pthread_mutex_t lock; /* guards all below */
    struct request_sums sums;
    size_t n_named; /* those with a route of their own */
    size_t n_series;
    struct series series[SERIES_ALL];
};

struct request_metrics *request_metrics_new(void)
{
    struct request_metrics *metrics = calloc(1, sizeof(*metrics));

    if (metrics)
        pthread_mutex_init(&metrics->lock, NULL);
    return metrics;
}

struct request_metrics *request_metrics_free(struct request_metrics *metrics)
{
    if (metrics)
        pthread_mutex_destroy(&metrics->lock);
    free(metrics);
    return NULL;
}

static bool has_digit(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] >= '0' && text[i] <= '9')
            return true;
    return false;
}

void request_route(const char *target, size_t length, char route[REQUEST_ROUTE_MAX])
{
    size_t used = 0;
    unsigned segments = 0;

    for (size_t i = 0; i < length; i++)
        if (target[i] == '?' || target[i] == '#')
            length = i;
    if (length == 0 || target[0] != '/') {
        memcpy(route, ROUTE_OTHER, sizeof(ROUTE_OTHER));
        return;
    }
    for (size_t i = 1; i <= length;) {
        const char *slash = memchr(target + i, '/', length - i);
        size_t n = slash ? (size_t)(slash - target) - i : length - i;
        const char *segment = has_digit(target + i, n) ? "*" : target + i;

        i += n + 1;
        if (*segment == '*')
            n = 1;
        /* Room for the slash, an ellipsis behind another slash, and the NUL. */
        if (segments++ == SEGMENTS_MAX || used + n + sizeof("//…") > REQUEST_ROUTE_MAX) {
            memcpy(route + used, "/…", strlen("/…"));
            used += strlen("/…");
            break;
        }
        route[used++] = '/';
        memcpy(route + used, segment, n);
        used += n;
    }
    route[used] = '\0';
}

static unsigned find_method(const struct request_record *request)
{
    for (unsigned i = 0; i < N_METHODS - 1; i++)
        if (strlen(methods[i]) == request->method_length &&
            memcmp(methods[i], request->method, request->method_length) == 0)
            return i;
    return N_METHODS - 1;
}

static struct series *find_series(struct request_metrics *metrics, unsigned method, unsigned class,
                                  const char *route)
{
    for (size_t i = 0; i < metrics->n_series; i++) {
        struct series *series = &metrics->series[i];

        if (series->method == method && series->class == class && strcmp(series->route, route) == 0)
            return series;
    }
    return NULL;
}

/* @return the request's series, a new one if there is none yet */
static struct series *get_series(struct request_metrics *metrics,
                                 const struct request_record *request)
{
    unsigned method = find_method(request);
    unsigned class = request->status >= 100 && request->status < 600 ? request->status / 100 : 0;
    char route[REQUEST_ROUTE_MAX];
    struct series *series;
    bool other;

    request_route(request->path, request->path_length, route);
    series = find_series(metrics, method, class, route);
    if (series)
        return series;
    other = strcmp(route, ROUTE_OTHER) == 0;
    if (!other && metrics->n_named == REQUEST_SERIES_MAX) {
        memcpy(route, ROUTE_OTHER, sizeof(ROUTE_OTHER));
        series = find_series(metrics, method, class, route);
        if (series)
            return series;
        other = true;
    }
    metrics->n_named += !other;
    series = &metrics->series[metrics->n_series++];
    series->method = method;
    series->class = class;
    memcpy(series->route, route, sizeof(route));
    return series;
}

void request_metrics_add(struct request_metrics *metrics, const struct request_record *request)
{
    struct series *series;
    size_t bucket = 0;

    assert(request->path_length <= RECORD_PATH_MAX && request->method_length <= RECORD_METHOD_MAX);
    while (bucket < N_BOUNDS && request->energy_uj > bounds[bucket].uj)
        bucket++;
    pthread_mutex_lock(&metrics->lock);
    series = get_series(metrics, request);
    series->buckets[bucket]++;
    series->sum_uj += request->energy_uj;
    pthread_mutex_unlock(&metrics->lock);
}

void request_metrics_set_sums(struct request_metrics *metrics, const struct request_sums *sums)
{
    pthread_mutex_lock(&metrics->lock);
    metrics->sums = *sums;
    pthread_mutex_unlock(&metrics->lock);
}

static void write_labels(FILE *stream, const struct series *series)
{
    fprintf(stream, "method=\"%s\",status=\"%s\",", methods[series->method],
            classes[series->class]);
    metrics_write_label(stream, "route", series->route, sizeof(series->route));
}

static void write_series(FILE *stream, const struct series *series)
{
    uint64_t count = 0;

    for (size_t i = 0; i <= N_BOUNDS; i++) {
        count += series->buckets[i];
        fputs(ENERGY_METRIC "_bucket{", stream);
        write_labels(stream, series);
        fprintf(stream, ",le=\"%s\"} %" PRIu64 "\n", i < N_BOUNDS ? bounds[i].joules : "+Inf",
                count);
    }
    fputs(ENERGY_METRIC "_sum{", stream);
    write_labels(stream, series);
    fputs("} ", stream);
    metrics_write_joules(stream, series->sum_uj);
    fputs(ENERGY_METRIC "_count{", stream);
    write_labels(stream, series);
    fprintf(stream, "} %" PRIu64 "\n", count);
}

static void write_sums(FILE *stream, const struct request_sums *sums)
{
    metrics_write_family(stream, "virtjoule_request_background_joules_total", "counter",
                         "Energy of the machine that is no request's.");
    fputs("virtjoule_request_background_joules_total ", stream);
    metrics_write_joules(stream, sums->background_uj);
    metrics_write_family(stream, "virtjoule_request_bound_ratio", "gauge",
                         "Part of all tasks' work that is some request's, since the start.");
    if (sums->work > 0)
        fprintf(stream, "virtjoule_request_bound_ratio %.6f\n",
                (double)sums->bound_work / (double)sums->work);
    metrics_write_family(stream, "virtjoule_request_missed_total", "counter",
                         "Requests that are not in the histogram: there was no room for them.");
    fprintf(stream, "virtjoule_request_missed_total %" PRIu64 "\n", sums->missed);
    metrics_write_family(stream, "virtjoule_request_log_lines_dropped_total", "counter",
                         "Lines that the access log could not take.");
    fprintf(stream, "virtjoule_request_log_lines_dropped_total %" PRIu64 "\n",
            sums->log_lines_dropped);
}

int request_metrics_render(FILE *stream, void *data)
{
    struct request_metrics *metrics = data;

    metrics_write_family(stream, ENERGY_METRIC, "histogram",
                         "Energy of requests, the streaming of their responses included.");
    pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < metrics->n_series; i++)
        write_series(stream, &metrics->series[i]);
    write_sums(stream, &metrics->sums);
    pthread_mutex_unlock(&metrics->lock);
    return fflush(stream) != 0 || ferror(stream) ? -EIO : 0;
}
