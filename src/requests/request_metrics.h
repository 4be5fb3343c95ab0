/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Metrics of requests: a histogram of energy by method, status class and route,
 * and what no request could be charged with. Clients choose methods and targets,
 * so the number of series is bounded: what comes after counts as route "other".
 *
 * Requests are added by one thread while another one renders.
 */

#include <stdint.h>
#include <stdio.h>

#include "requests/request_record.h"

/** Series with a route of their own; those of the route "other" are beside them. */
#define REQUEST_SERIES_MAX 512
#define REQUEST_ROUTE_MAX 64

struct request_metrics;

/** What the requests' sum is a part of. All are totals since the start. */
struct request_sums {
    uint64_t background_uj;     /* the machine's energy that is no request's */
    uint64_t bound_work;        /* of all tasks' work: what is some request's */
    uint64_t work;              /* of all tasks */
    uint64_t missed;            /* requests that nothing was told of */
    uint64_t log_lines_dropped; /* of the access log */
};

/** @return NULL without memory */
struct request_metrics *request_metrics_new(void);

void request_metrics_add(struct request_metrics *metrics, const struct request_record *request);

void request_metrics_set_sums(struct request_metrics *metrics, const struct request_sums *sums);

/** Prometheus text; a metrics_render of util/metrics_server.h. */
int request_metrics_render(FILE *stream, void *metrics);

/** NULL is accepted. @return NULL */
struct request_metrics *request_metrics_free(struct request_metrics *metrics);

/**
 * The route of a target: its path without query, three segments at most ("…"
 * stands for the rest), and "*" for segments that hold a digit: ids, versions,
 * hashed names. What is no path is "other".
 */
void request_route(const char *target, size_t length, char route[REQUEST_ROUTE_MAX]);
