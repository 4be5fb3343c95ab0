/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The workload server's three ways of serving. None of them returns but on failure. */

/**
 * A thread for each connection, which it reads and writes blocking.
 * @return a negative errno
 */
int serve_threads(int listen_fd, int file);

/** One thread, one epoll loop; the work is done in the loop. */
int serve_events(int listen_fd, int file);

/**
 * One thread waits for all connections and hands those that have something to a
 * pool of workers.
 */
int serve_pool(int listen_fd, int file, unsigned workers);
