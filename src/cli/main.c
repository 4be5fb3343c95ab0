/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* `virtjoule`: finds the subcommand and runs it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/subcommand.h"
#include "util/cleanup.h"
#include "util/macros.h"

struct subcommand {
    const char *name;
    const char *arguments; /* as the help has them, behind the name */
    const char *purpose;
    int (*run)(struct common_options *common, int argc, char **argv);
};

/* In the order of the help. */
static const struct subcommand subcommands[] = {
    {"list", "", "all virtual machines and their energy", list_command},
    {"show", "VM", "one of them, by name or UUID; with --host the host's zones", show_command},
    {"prepare", "UUID", "make the share of a virtual machine that is about to start",
     prepare_command},
    {"attach", "DOMAIN", "give a libvirt domain its share", attach_command},
    {"detach", "DOMAIN", "take the share away again", detach_command},
    {"calibrate", "", "measure the static power of the zones", calibrate_command},
    {"doctor", "", "what is wrong, on a host or in a guest, and its cure", doctor_command},
};

/* @return a text to be freed; NULL when out of memory */
static char *describe_subcommands(void)
{
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    if (!stream)
        return NULL;
    fputs("Shows the energy of virtual machines, and hands it to them.\n"
          "Each command has a --help of its own.\n",
          stream);
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++) {
        const struct subcommand *subcommand = &subcommands[i];

        fprintf(stream, "\n  %-9s %-6s  %s", subcommand->name, subcommand->arguments,
                subcommand->purpose);
    }
    fclose(stream);
    return text;
}

int main(int argc, char **argv)
{
    _cleanup_free_ char *purpose = describe_subcommands();
    struct common_options common = {0};
    int first;
    const struct program_option options[] = {COMMON_OPTIONS(&common)};
    const struct program_usage usage = {
        .name = "virtjoule",
        .arguments = "[OPTION]... COMMAND [ARGUMENT]...",
        .purpose = purpose ? purpose : "",
        .statuses = "0 success, 1 the answer is no, 2 wrong usage, 69 no daemon",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
        .subcommand = &first,
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    if (first == argc)
        return program_usage_error(&usage, "no command given");
    for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
        if (strcmp(argv[first], subcommands[i].name) == 0)
            return subcommands[i].run(&common, argc - first, argv + first);
    return program_usage_error(&usage, "unknown command \"%s\"", argv[first]);
}
