/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "util/cleanup.h"

static inline void release_json(struct json_object *object)
{
    json_object_put(object);
}
DEFINE_CLEANUP(struct json_object *, release_json);
#define _cleanup_json_ _cleanup_(cleanup_release_json)

/** The path of the daemon's socket: the given one, or the default where it is NULL. */
const char *client_socket(const char *path);

/**
 * Asks the daemon and waits for its answer, ten seconds at most.
 * @param socket_path  NULL: the default
 * @param command      the question
 * @param vm           the VM that the question is about, by name or UUID; NULL: none
 * @param ret          the answer, a JSON object that the caller releases
 * @return 0; -ENOENT, -ECONNREFUSED, -EACCES when it cannot be reached;
 *         -EPROTO when the answer is no JSON object; or another negative errno
 */
int client_ask(const char *socket_path, const char *command, const char *vm,
               struct json_object **ret);

/**
 * Has the daemon make the tree of a VM that is about to start. Callers are root and give the
 * directory to virtiofsd, so they must not believe the daemon: an answer whose "tree" is not
 * that VM's directory in a mount of virtjoule's becomes an "error".
 * @param uuid  any text
 * @return as client_ask()
 */
int client_prepare(const char *socket_path, const char *uuid, struct json_object **ret);
