/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Prometheus metrics over HTTP, from the board's snapshots.
 */

#include <stdio.h>

#include "ledger/snapshot.h"

struct exporter;

/**
 * Serves /metrics on a thread of its own.
 * @param listen   "127.0.0.1:9177" or "[::1]:9177"; port 0 takes a free one
 * @param users    names or numbers of users of this host that may read the metrics, beside root,
 *                 the daemon's own and prometheus; separated by spaces. Unknown ones are logged
 * @param version  for virtjoule_build_info
 * @return 0; -EINVAL for a malformed address; -EADDRINUSE; or another
 *         negative errno. The reason is logged.
 */
int exporter_new(struct exporter **ret, const char *listen, const char *users, const char *version,
                 struct snapshot_board *board);

/** The port that is listened on: the one taken where 0 was asked for. */
unsigned exporter_port(const struct exporter *exporter);

/** Stops serving; NULL is accepted. @return NULL */
struct exporter *exporter_free(struct exporter *exporter);

/**
 * Writes the metrics of one snapshot as Prometheus text.
 * @param snapshot  NULL before the first: only virtjoule_build_info is written
 * @return 0 or -EIO
 */
int exporter_render(FILE *stream, const struct snapshot *snapshot, const char *version);
