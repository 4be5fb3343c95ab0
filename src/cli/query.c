/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/query.h"

#include <stdlib.h>

#include "cli/client.h"
#include "cli/print.h"
#include "util/log.h"

int query(const struct common_options *common, const char *command, const char *vm,
          void (*print)(FILE *stream, struct json_object *answer))
{
    _cleanup_json_ struct json_object *answer = NULL;
    int r = client_ask(common->socket_path, command, vm, &answer);

    return query_print(common, r, answer, print);
}

int query_print(const struct common_options *common, int r, struct json_object *answer,
                void (*print)(FILE *stream, struct json_object *answer))
{
    struct json_object *error;

    if (r < 0) {
        fprintf(stderr, "virtjoule: no answer from virtjouled at %s: %s\n",
                client_socket(common->socket_path), log_errno_text(r));
        return STATUS_UNAVAILABLE;
    }
    error = json_object_object_get(answer, "error");
    if (error)
        fprintf(stderr, "virtjoule: %s\n", json_object_get_string(error));
    if (common->json)
        print_json(answer);
    else if (!error)
        print(stdout, answer);
    return error ? STATUS_NO : EXIT_SUCCESS;
}
