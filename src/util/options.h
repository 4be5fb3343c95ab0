/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The command line of a program or of one of its subcommands: one table from which the parser
 * and the help are made. Every program has --version and --help.
 */

#include <stdbool.h>
#include <stddef.h>

/* As many options as any program has. */
#define PROGRAM_OPTIONS_MAX 16

/** An option with exactly one target. */
struct program_option {
    const char *name;     /* behind the two dashes */
    const char *argument; /* as the help calls it; NULL: the option takes none */
    const char *help;
    const char **text; /* target: becomes the argument */
    bool *flag;        /* target: becomes true */
    int *choice;       /* target: becomes the value */
    int value;
};

struct program_usage {
    const char *name;      /* as messages have it, e.g. "virtjoule attach" */
    const char *arguments; /* of the help's first line, behind the name; "" without any */
    const char *purpose;   /* what the program does: one or more lines */
    const char *statuses;  /* what its exit statuses mean */
    int wrong_usage;       /* the exit status of wrong usage */
    const struct program_option *options;
    size_t n_options;
    const char **operand; /* target of the only argument that is no option; NULL: none is taken */
    int *subcommand;      /* or: what is parsed ends before the first one, whose index in argv this
                             becomes, argc where there is none; NULL: all is parsed */
};

/**
 * Reads a command line; says what is wrong with it, or prints what --help and --version ask for.
 * @param argv  as of main(); reordered, its first element becomes the program's name
 * @return -1 to go on, else the exit status
 */
int program_parse(const struct program_usage *usage, int argc, char **argv);

/** Says what is wrong with the arguments. @return the exit status of wrong usage */
__attribute__((format(printf, 2, 3))) int program_usage_error(const struct program_usage *usage,
                                                              const char *format, ...);
