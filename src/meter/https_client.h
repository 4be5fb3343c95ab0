/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * GET over TLS: one request at a time, for a thread that may wait.
 *
 * The certificate and its name are verified. Redirections are followed on the
 * same host and port only; no proxy is used, whatever the environment says.
 */

#include <stdint.h>

#include "meter/meter.h"

struct https_client;

/** How a request ended. */
struct https_response {
    enum meter_state state; /* METER_OK for status 200 */
    long status;            /* of HTTP, 0: there was none */
    const char *body;       /* with METER_OK; the next request ends it */
    size_t length;
    const char *detail; /* otherwise; likewise */
};

/**
 * @param ca_file  certificates to trust; empty: the system's
 * @return 0 or a negative errno
 */
int https_client_new(struct https_client **ret, const char *ca_file, size_t body_max);

/**
 * Makes a request and waits for its end.
 * @param url     "https://host[:port]/path"
 * @param user    NULL: without
 * @param end_ns  CLOCK_MONOTONIC at which the request is given up, METER_SILENT
 */
void https_get(struct https_client *client, const char *url, const char *user, const char *password,
               uint64_t end_ns, struct https_response *ret);

/** @return NULL */
struct https_client *https_client_free(struct https_client *client);
