/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* `virtjoule list`: one VM a line. */

#include "cli/print.h"
#include "cli/query.h"
#include "util/macros.h"

int list_command(struct common_options *common, int argc, char **argv)
{
    const struct program_option options[] = {COMMON_OPTIONS(common)};
    const struct program_usage usage = {
        .name = "virtjoule list",
        .arguments = "[OPTION]...",
        .purpose =
            "All virtual machines: their power now, and their energy and CPU time since they\n"
            "are known.",
        .statuses = "0 success, 2 wrong usage, 69 no daemon",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
    };
    int status = program_parse(&usage, argc, argv);

    return status >= 0 ? status : query(common, "list", NULL, print_list);
}
