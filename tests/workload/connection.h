/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One client of the workload server: requests in, responses out, in order.
 *
 *     socket --> head --> (body) --> work --> response --> socket, sendfile
 *
 * The same for every way of serving: on a blocking socket connection_run() ends
 * when the client has gone, on another one when it would have to wait.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum connection_wants {
    CONNECTION_CLOSE,
    CONNECTION_READ,
    CONNECTION_WRITE,
};

struct connection;

/**
 * @param fd    a connected socket; the connection's from now on
 * @param file  what /file sends; shared
 * @return NULL without memory, the socket is then closed
 */
struct connection *connection_new(int fd, int file);

/** Serves requests for as long as the socket lets it. @return what to wait for */
enum connection_wants connection_run(struct connection *connection);

int connection_fd(const struct connection *connection);

/** Closes the socket; NULL is accepted. @return NULL */
struct connection *connection_free(struct connection *connection);
