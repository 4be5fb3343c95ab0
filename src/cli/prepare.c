/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* `virtjoule prepare`: makes a VM's share before the VM starts, and prints where it is. */

#include "cli/client.h"
#include "cli/query.h"
#include "util/macros.h"

static void print_tree(FILE *stream, struct json_object *answer)
{
    fprintf(stream, "%s\n", json_object_get_string(json_object_object_get(answer, "tree")));
}

static int prepare(const struct common_options *common, const char *uuid)
{
    _cleanup_json_ struct json_object *answer = NULL;
    int r = client_prepare(common->socket_path, uuid, &answer);

    return query_print(common, r, answer, print_tree);
}

int prepare_command(struct common_options *common, int argc, char **argv)
{
    const char *uuid = NULL;
    const struct program_option options[] = {COMMON_OPTIONS(common)};
    const struct program_usage usage = {
        .name = "virtjoule prepare",
        .arguments = "UUID [OPTION]...",
        .purpose = "Makes the share of a virtual machine that is about to start, and prints its\n"
                   "directory.",
        .statuses = "0 success, 1 no such UUID, 2 wrong usage, 69 no daemon",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
        .operand = &uuid,
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    return uuid ? prepare(common, uuid) : program_usage_error(&usage, "takes the UUID of a VM");
}
