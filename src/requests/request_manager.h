/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The assembly of virtjoule-requests: owns every object, and runs the tick.
 *
 *     powercap_reader --(energy)--+
 *                                 +--> work_price --(factor)--> kernel --> X-Energy-Score
 *     kernel --(work)-------------+
 *     kernel --(requests that are over)--> access log, metrics
 */

#include "requests/request_config.h"

struct request_manager;

/** Where to write the rows that weights are fitted from; path NULL: nowhere. */
struct collect_options {
    const char *path;
    const char *label;
};

/**
 * Loads the programs and begins to count work.
 * @param config   copied
 * @param collect  its texts must outlive the manager
 * @return 0; -EOPNOTSUPP: the kernel does not take the programs; or another
 *         negative errno. The reason is logged.
 */
int request_manager_new(struct request_manager **ret, const struct request_config *config,
                        const struct collect_options *collect);

/** Runs until SIGTERM or SIGINT. @return 0 or a negative errno */
int request_manager_run(struct request_manager *manager);

/** NULL is accepted. @return NULL */
struct request_manager *request_manager_free(struct request_manager *manager);
