/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A small HTTP server for Prometheus metrics, whose text its user writes.
 */

#include <stdio.h>

struct metrics_server;

/**
 * Writes all metrics as Prometheus text, on the server's thread.
 * @return 0, or a negative errno: the connection is closed
 */
typedef int (*metrics_render)(FILE *stream, void *data);

/**
 * Serves /metrics on a thread of its own, as soon as the address can be had.
 * @param listen  as listen_address_parse() takes it; port 0 takes a free one; a
 *                Unix socket is for this user and group
 * @return 0; -EINVAL for a malformed address; or -ENOMEM
 */
int metrics_server_new(struct metrics_server **ret, const char *listen, metrics_render render,
                       void *data);

/**
 * Tries again to serve, if nothing is served and an attempt is due; to be called
 * now and then. What fails is logged. NULL is accepted.
 */
void metrics_server_keep(struct metrics_server *server);

/** The port that is listened on: the one taken where 0 was asked for; 0: none. */
unsigned metrics_server_port(const struct metrics_server *server);

/** Stops serving; NULL is accepted. @return NULL */
struct metrics_server *metrics_server_free(struct metrics_server *server);
