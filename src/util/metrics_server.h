/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A small HTTP server for Prometheus metrics, whose text its user writes.
 */

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

struct metrics_server;

/**
 * Writes all metrics as Prometheus text, on the server's thread.
 * @return 0, or a negative errno: the connection is closed
 */
typedef int (*metrics_render)(FILE *stream, void *data);

#define METRICS_READERS_MAX 32

/** The users of this host that may read the metrics. */
struct metrics_readers {
    uid_t users[METRICS_READERS_MAX];
    size_t n;
};

/**
 * Serves /metrics on a thread of its own. Clients on other hosts are served if the address lets
 * them come.
 * @param listen   as listen_address_parse() takes it; port 0 takes a free one
 * @param readers  copied; NULL: every user
 * @return 0; -EINVAL for a malformed address; -EADDRINUSE; or another
 *         negative errno. The reason is logged.
 */
int metrics_server_new(struct metrics_server **ret, const char *listen,
                       const struct metrics_readers *readers, metrics_render render, void *data);

/** The port that is listened on: the one taken where 0 was asked for. */
unsigned metrics_server_port(const struct metrics_server *server);

/** Stops serving; NULL is accepted. @return NULL */
struct metrics_server *metrics_server_free(struct metrics_server *server);
