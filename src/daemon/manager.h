/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The manager: makes and owns every object of the daemon, and runs the tick.
 */

#include "daemon/config.h"

struct manager;

/**
 * Builds everything that the configuration asks for, and mounts or continues
 * the mount of a former daemon.
 * @return 0 or a negative errno; the reason is logged
 */
int manager_new(struct manager **ret, const struct config *config);
struct manager *manager_free(struct manager *manager);

/** Runs until SIGTERM or SIGINT. @return 0 or a negative errno */
int manager_run(struct manager *manager);

/**
 * Makes the mount for the daemon that the service manager starts next, which
 * need not be allowed to mount: see powercapfs_mount().
 * @return 0 or a negative errno; the reason is logged
 */
int manager_mount(const struct config *config);
