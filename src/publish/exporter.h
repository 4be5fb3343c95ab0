/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Prometheus metrics over HTTP, from the board's snapshots.
 */

#include <stdio.h>

#include "ledger/snapshot.h"

struct exporter;

/**
 * Serves /metrics on a thread of its own, as soon as the address can be had.
 * @param listen   as metrics_server_new() takes it
 * @param version  for virtjoule_build_info
 * @return 0; -EINVAL for a malformed address; or -ENOMEM
 */
int exporter_new(struct exporter **ret, const char *listen, const char *version,
                 struct snapshot_board *board);

/** As metrics_server_keep(). */
void exporter_keep(struct exporter *exporter);

/** The port that is listened on: the one taken where 0 was asked for; 0: none. */
unsigned exporter_port(const struct exporter *exporter);

/** Stops serving; NULL is accepted. @return NULL */
struct exporter *exporter_free(struct exporter *exporter);

/**
 * Writes the metrics of one snapshot as Prometheus text.
 * @param snapshot  NULL before the first: only virtjoule_build_info is written
 * @return 0 or -EIO
 */
int exporter_render(FILE *stream, const struct snapshot *snapshot, const char *version);
