/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the subcommands of `virtjoule` have in common. A new one is a file with its function,
 * the function's line below, a row in main.c, and a section in man/virtjoule.1.scd;
 * tests/unit/test-subcommands.sh says which of these is missing.
 */

#include <stdbool.h>
#include <sysexits.h>

#include "util/options.h"
#include "util/paths.h"

/* The exit statuses of every subcommand. */
enum {
    STATUS_NO = 1, /* the answer is no */
    STATUS_USAGE = 2,
    STATUS_UNAVAILABLE = EX_UNAVAILABLE, /* 69: the daemon is not there */
};

/** Options that every subcommand takes, before its name or behind it. */
struct common_options {
    const char *socket_path; /* NULL: the default */
    bool json;
};

/* The rows of these in a table of options. */
#define COMMON_OPTIONS(common)                                                                     \
    {"json", NULL, "print the result as JSON", .flag = &(common)->json},                           \
    {                                                                                              \
        "socket", "PATH", "where virtjouled listens (default " CONTROL_SOCKET ")",                 \
            .text = &(common)->socket_path                                                         \
    }

/*
 * Runs a subcommand, which parses its own arguments.
 * @param common  what stood before the subcommand's name; further options are added to it
 * @param argv    from the subcommand's name on
 * @return the exit status
 */

int attach_command(struct common_options *common, int argc, char **argv);
int calibrate_command(struct common_options *common, int argc, char **argv);
int detach_command(struct common_options *common, int argc, char **argv);
int doctor_command(struct common_options *common, int argc, char **argv);
int list_command(struct common_options *common, int argc, char **argv);
int prepare_command(struct common_options *common, int argc, char **argv);
int show_command(struct common_options *common, int argc, char **argv);
