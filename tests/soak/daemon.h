/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The daemon without its event loop and its sensors: the same parts, assembled
 * and called in the order of daemon/manager.c.
 *
 *     host -> readings, VM table, usage -> ledger -> files, snapshot -> requests
 */

#include "../lib/fuse_fixture.h"
#include "baseline/static_powers.h"
#include "host.h"
#include "ledger/ledger_store.h"

struct soak_daemon {
    struct zone_set zones;
    size_t zone_of_slot[HOST_ZONES]; /* of the host's */
    struct sampler sampler;
    struct sample sample;
    struct vm_table vms;
    struct attribution_model *model;
    struct static_powers *static_powers;
    struct ledger *ledger;
    struct ledger_store *store;
    struct snapshot_board *board;
    struct fuse_fixture *requests;
};

/** Starts on what the last one left in the directory, <directory>/run and <directory>/state. */
void daemon_start(struct soak_daemon *daemon, struct host *host, const char *directory,
                  unsigned boot);
void daemon_tick(struct soak_daemon *daemon, struct host *host);
void daemon_stop(struct soak_daemon *daemon);

/** The slot of a zone of the host; the daemon's zones.n if it has not found it. */
size_t daemon_slot(const struct soak_daemon *daemon, size_t zone);
