/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control socket: a client sends one JSON object in one line and gets one
 * in return, then the connection closes.
 *
 *     {"command":"list"}             all zones and VMs
 *     {"command":"show","vm":"web"}  one VM, by name or UUID
 *     {"command":"show"}             the host's zones alone
 *     {"command":"prepare","vm":"UUID"}  that VM, which has its tree from now on
 *
 * A refusal is {"error":"..."}; "no such VM" carries "not_found":true as well.
 * Energies are joules with all their microjoules.
 */

#include <systemd/sd-event.h>

#include "ledger/snapshot.h"
#include "util/descriptors.h"

/* Members of this group may ask, besides root. */
#define CONTROL_GROUP "virtjoule"

struct control;

/** What a request may have done. */
struct control_actions {
    /* Makes a VM's tree and a snapshot that has it. @return 0 or a negative errno */
    int (*prepare)(void *userdata, const uuid_t uuid);
    void *userdata;
};

/**
 * Listens on a socket file, in the event loop. A socket named "control" that
 * the service manager listens on is served instead, and remains its: its file
 * is neither made nor removed.
 * @param path         replaced when a dead daemon left it
 * @param mountpoint   of the trees, for the answers' "tree"
 * @param descriptors  of the service manager
 * @param actions      copied
 * @return 0; -EADDRINUSE when another daemon answers there; or another
 *         negative errno. The reason is logged.
 */
int control_new(struct control **ret, sd_event *event, const char *path, const char *mountpoint,
                struct snapshot_board *board, struct descriptors *descriptors,
                const struct control_actions *actions);

/** Closes the socket, and removes it if it was made here; NULL is accepted. @return NULL */
struct control *control_free(struct control *control);

/** Whether a request asks to prepare a VM, and which. @param request any bytes */
bool control_asks_prepare(const char *request, size_t length, uuid_t ret);

/**
 * Answers one request, what it asks to do having been done.
 * @param request     any bytes
 * @param snapshot    NULL before the first
 * @param ret         JSON text, one line; to be freed
 * @return 0 or -ENOMEM
 */
int control_answer(const char *request, size_t length, const struct snapshot *snapshot,
                   const char *mountpoint, char **ret);
