/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

/**
 * Asks the daemon and waits for its answer, ten seconds at most.
 * @param request  one JSON object, borrowed
 * @return 0; -ENOENT, -ECONNREFUSED, -EACCES when it cannot be reached;
 *         -EPROTO when the answer is no JSON object; or another negative errno
 */
int client_ask(const char *socket_path, struct json_object *request, struct json_object **ret);
