/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control socket: a client sends one JSON object in one line and gets one
 * in return, then the connection closes.
 *
 *     {"command":"list"}             all zones and VMs
 *     {"command":"show","vm":"web"}  one VM, by name or UUID
 *     {"command":"show"}             the host's zones alone
 *
 * A refusal is {"error":"..."}; "no such VM" carries "not_found":true as well.
 * Energies are joules with all their microjoules.
 */

#include <systemd/sd-event.h>

#include "attribution/snapshot.h"
#include "util/descriptors.h"

/* Members of this group may ask, besides root. */
#define CONTROL_GROUP "virtjoule"

struct control;

/**
 * Listens on a socket file, in the event loop. A socket named "control" that
 * the service manager listens on is served instead, and remains its: its file
 * is neither made nor removed.
 * @param path         replaced when a dead daemon left it
 * @param mountpoint   of the trees, for the answers' "tree"
 * @param descriptors  of the service manager
 * @return 0; -EADDRINUSE when another daemon answers there; or another
 *         negative errno. The reason is logged.
 */
int control_new(struct control **ret, sd_event *event, const char *path, const char *mountpoint,
                struct snapshot_board *board, struct descriptors *descriptors);

/** Closes the socket, and removes it if it was made here; NULL is accepted. @return NULL */
struct control *control_free(struct control *control);

/**
 * Answers one request.
 * @param request     any bytes
 * @param snapshot    NULL before the first
 * @param ret         JSON text, one line; to be freed
 * @return 0 or -ENOMEM
 */
int control_answer(const char *request, size_t length, const struct snapshot *snapshot,
                   const char *mountpoint, char **ret);
