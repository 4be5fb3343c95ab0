/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control socket: a client sends one JSON object in one line and gets one
 * in return, then the connection closes.
 *
 *     {"command":"list"}             all zones and VMs
 *     {"command":"show","vm":"web"}  one VM, by name or UUID
 *     {"command":"show"}             the host's zones alone
 *     {"command":"prepare","vm":"UUID"}  makes the VM's tree, and shows the VM
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

/** The actions that a request may ask for. */
struct control_actions {
    /* Makes a VM's tree, and posts a snapshot with it. @return 0 or a negative errno */
    int (*prepare)(void *userdata, const uuid_t uuid);
    void *userdata;
};

/**
 * Listens on a socket file, in the event loop. Where the service manager
 * listens on a socket named "control", that one is served instead; its file
 * belongs to the service manager and is neither made nor removed here.
 * @param path         a file that a dead daemon left there is replaced
 * @param mountpoint   of the trees, for "tree" in the answers
 * @param descriptors  that the service manager handed over
 * @param actions      copied
 * @return 0; -EADDRINUSE when another daemon answers there; or another
 *         negative errno. The reason is logged.
 */
int control_new(struct control **ret, sd_event *event, const char *path, const char *mountpoint,
                struct snapshot_board *board, struct descriptors *descriptors,
                const struct control_actions *actions);

/** Closes the socket, and removes it if it was made here; NULL is accepted. @return NULL */
struct control *control_free(struct control *control);

/** Does a request ask to prepare a VM? @param request any bytes @param ret  its UUID */
bool control_asks_prepare(const char *request, size_t length, uuid_t ret);

/** An answer: of one with many VMs only a part is made at a time. */
struct control_answer {
    const struct snapshot *snapshot; /* NULL before the first; valid until the answer's end */
    const char *mountpoint;
    bool lists_vms; /* they are still to come, from next_vm on */
    size_t next_vm;
};

/**
 * Begins to answer one request, after the action that it asks for.
 * @param answer   its snapshot and mountpoint are set
 * @param request  any bytes
 * @param ret      the first part of a JSON text of one line; to be freed
 * @return 0 or -ENOMEM
 */
int control_answer_begin(struct control_answer *answer, const char *request, size_t length,
                         char **ret);

/**
 * Goes on with the answer.
 * @param ret  the next part; to be freed
 * @return 1; 0: there is no more, ret is untouched; or -ENOMEM
 */
int control_answer_continue(struct control_answer *answer, char **ret);
