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

#include "guest/request.h"

/** Series with a route of their own; those of the route "other" are beside them. */
#define REQUEST_SERIES_MAX 512
#define REQUEST_ROUTE_MAX 64

struct request_metrics;

/** What the requests' sum is a part of. All but the fraction are totals. */
struct request_totals {
    uint64_t background_uj;     /* the machine's energy that is no request's */
    uint64_t bound_work;        /* work in the watched cgroups that is some request's */
    uint64_t watched_work;      /* all work in the watched cgroups */
    uint64_t log_lines_dropped; /* of the access log */
};

/** @return NULL without memory */
struct request_metrics *request_metrics_new(void);

void request_metrics_add(struct request_metrics *metrics, const struct request *request);

void request_metrics_set_totals(struct request_metrics *metrics,
                                const struct request_totals *totals);

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
