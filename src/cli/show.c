/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* `virtjoule show`: a VM, or the host's zones and rows. */

#include "cli/print.h"
#include "cli/query.h"
#include "util/macros.h"

int show_command(struct common_options *common, int argc, char **argv)
{
    const char *vm = NULL;
    bool host = false;
    const struct program_option options[] = {
        {"host", NULL, "the host's zones: measured, host, static and unattributed energy",
         .flag = &host},
        COMMON_OPTIONS(common),
    };
    const struct program_usage usage = {
        .name = "virtjoule show",
        .arguments = "VM | --host [OPTION]...",
        .purpose = "Shows a virtual machine, which is given by its name or UUID, or the host.",
        .statuses = "0 success, 1 no such VM, 2 wrong usage, 69 no daemon",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
        .operand = &vm,
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    if (host == (vm != NULL))
        return program_usage_error(&usage, "takes the name or UUID of a VM, or --host");
    return query(common, "show", vm, host ? print_host : print_vm);
}
