/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/exporter.h"

#include <errno.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/metrics_server.h"

struct exporter {
    struct snapshot_board *board;
    char *version;
    struct metrics_server *server;
};

DEFINE_CLEANUP(struct exporter *, exporter_free);

static int render_current(FILE *stream, void *data)
{
    struct exporter *exporter = data;
    const struct snapshot *snapshot = snapshot_board_acquire(exporter->board);
    int r = exporter_render(stream, snapshot, exporter->version);

    snapshot_board_release(exporter->board, snapshot);
    return r;
}

int exporter_new(struct exporter **ret, const char *listen, const char *version,
                 struct snapshot_board *board)
{
    _cleanup_(cleanup_exporter_free) struct exporter *exporter = calloc(1, sizeof(*exporter));
    int r;

    if (!exporter)
        return -ENOMEM;
    exporter->board = board;
    exporter->version = strdup(version);
    if (!exporter->version)
        return -ENOMEM;
    r = metrics_server_new(&exporter->server, listen, render_current, exporter);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(exporter);
    return 0;
}

void exporter_keep(struct exporter *exporter)
{
    if (exporter)
        metrics_server_keep(exporter->server);
}

unsigned exporter_port(const struct exporter *exporter)
{
    return metrics_server_port(exporter->server);
}

struct exporter *exporter_free(struct exporter *exporter)
{
    if (!exporter)
        return NULL;
    metrics_server_free(exporter->server);
    free(exporter->version);
    free(exporter);
    return NULL;
}
