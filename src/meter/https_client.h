/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * GET over TLS in the event loop: one request at a time, nothing waits.
 *
 *     https_get() --> libcurl, its sockets and timer in sd-event --> handler(response)
 *
 * The certificate and its name are verified. Redirections are followed on the
 * same host and port only; no proxy is used, whatever the environment says.
 */

#include <systemd/sd-event.h>

#include "meter/meter.h"
#include "util/buffer.h"

struct https_client;

/** How a request ended. */
struct https_response {
    enum meter_state state; /* METER_OK for status 200 */
    long status;            /* of HTTP, 0: there was none */
    const char *body;       /* with METER_OK */
    size_t length;
    const char *detail; /* otherwise */
};

/** Takes the response, which is gone afterwards; may start the next request. */
typedef void (*https_handler)(const struct https_response *response, void *userdata);

/**
 * @param ca_file  certificates to trust; NULL: the system's
 * @return 0 or a negative errno
 */
int https_client_new(struct https_client **ret, sd_event *event, const char *ca_file,
                     size_t body_max, https_handler handler, void *userdata);

/**
 * Starts a request; there must be none. The handler is called later, not from here.
 * @param url       "https://host[:port]/path"
 * @param user      NULL: without
 * @return 0, or a negative errno, then the handler is not called
 */
int https_get(struct https_client *client, const char *url, const char *user, const char *password);

/** Gives up the request, if there is one; the handler is not called. */
void https_cancel(struct https_client *client);

/** @return NULL */
struct https_client *https_client_free(struct https_client *client);
