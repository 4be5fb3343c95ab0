/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Metrics of requests: a histogram of energy by method, status class and route,
 * and the energy that is no request's. Clients choose methods and targets, so the
 * number of series is bounded: once it is reached, requests count as route "other".
 *
 * Requests are added by one thread while another one renders.
 */

#include <stdint.h>
#include <stdio.h>

#include "requests/request_record.h"

/** Series with a route of their own; the series of the route "other" come on top. */
#define REQUEST_SERIES_MAX 512
#define REQUEST_ROUTE_MAX 64

struct request_metrics;

/** The totals of which requests are a part, since the start. */
struct request_sums {
    uint64_t background_uj;     /* the machine's energy that is no request's */
    uint64_t bound_work;        /* of all tasks' work: what was done for requests */
    uint64_t work;              /* of all tasks */
    uint64_t missed;            /* requests that are not in the histogram */
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
