/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The load generator's connections: each a thread that sends requests of the
 * mix and takes the answers, in order.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "mix.h"
#include "summary.h"

struct load_options {
    struct sockaddr_storage address;
    socklen_t address_length;
    unsigned connections; /* at a time */
    unsigned pipeline;    /* requests that are sent before the first answer is waited for */
    bool keep_alive;      /* else each connection has one batch of them */
    uint64_t duration_ns;
    uint64_t requests; /* of each connection; 0: as many as the duration lets it */
    uint64_t seed;     /* of what is asked when */
};

/**
 * Runs until the duration is over or all requests are answered. A connection
 * that fails is counted, and made again.
 * @return 0 or -ENOMEM
 */
int load_run(const struct load_options *options, const struct mix *mix, struct summary *summary,
             uint64_t *ret_duration_ns);
