/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The assembly of virtjoule-requests: owns every object, and runs the tick.
 *
 *     power tree --(energy)--+
 *                            +--> energy_split --(factor)--> kernel --> X-Energy-Score
 *     kernel --(work)--------+
 *     kernel --(requests that are over)--> access log, metrics
 */

#include "requests/requests_config.h"

struct requests_manager;

/** Where the rows that weights are fitted from go; path NULL: nowhere. */
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
int requests_manager_new(struct requests_manager **ret, const struct requests_config *config,
                         const struct collect_options *collect);

/** Runs until SIGTERM or SIGINT. @return 0 or a negative errno */
int requests_manager_run(struct requests_manager *manager);

/** NULL is accepted. @return NULL */
struct requests_manager *requests_manager_free(struct requests_manager *manager);
