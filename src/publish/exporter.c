/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/exporter.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "util/metrics_server.h"
#include "util/parse.h"

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

/* Debian's user of the Prometheus server, which need not be there. */
#define PROMETHEUS "prometheus"

static void add_reader(struct metrics_readers *readers, uid_t user)
{
    if (readers->n < METRICS_READERS_MAX)
        readers->users[readers->n++] = user;
}

/* @return whether there is such a user */
static bool find_user(const char *name, uid_t *ret)
{
    const struct passwd *entry = getpwnam(name);
    uint64_t number;

    if (entry)
        *ret = entry->pw_uid;
    else if (parse_u64_between(name, 0, UINT32_MAX - 1, &number) == 0)
        *ret = (uid_t)number;
    else
        return false;
    return true;
}

/* @param text  is cut into its words */
static void add_readers(struct metrics_readers *readers, char *text)
{
    char *rest = NULL;
    uid_t user;

    for (char *name = strtok_r(text, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        if (find_user(name, &user))
            add_reader(readers, user);
        else
            log_warning("the metrics are for a user that this host does not have",
                        F_STRING("user", name));
}

static int find_readers(const char *users, struct metrics_readers *ret)
{
    _cleanup_free_ char *text = strdup(users);
    uid_t user;

    if (!text)
        return -ENOMEM;
    *ret = (struct metrics_readers){0};
    add_reader(ret, 0);
    add_reader(ret, geteuid());
    if (find_user(PROMETHEUS, &user))
        add_reader(ret, user);
    add_readers(ret, text);
    return 0;
}

int exporter_new(struct exporter **ret, const char *listen, const char *users, const char *version,
                 struct snapshot_board *board)
{
    struct metrics_readers readers;
    _cleanup_(cleanup_exporter_free) struct exporter *exporter = calloc(1, sizeof(*exporter));
    int r;

    if (!exporter)
        return -ENOMEM;
    exporter->board = board;
    exporter->version = strdup(version);
    if (!exporter->version)
        return -ENOMEM;
    r = find_readers(users, &readers);
    if (r == 0)
        r = metrics_server_new(&exporter->server, listen, &readers, render_current, exporter);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(exporter);
    return 0;
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
