/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/options.h"

#include <assert.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"

/* What getopt_long() returns for the first option: beyond all characters. */
#define FIRST 256

static const struct program_option common_options[] = {
    {.name = "version", .help = "print the version and exit"},
    {.name = "help", .help = "print this text and exit"},
};

int program_usage_error(const struct program_usage *usage, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s: ", usage->name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "; see %s --help\n", usage->name);
    return usage->wrong_usage;
}

/* Each of the program's options, then the common ones. */
static const struct program_option *option_at(const struct program_usage *usage, size_t i)
{
    return i < usage->n_options ? &usage->options[i] : &common_options[i - usage->n_options];
}

static size_t count_options(const struct program_usage *usage)
{
    return usage->n_options + ARRAY_SIZE(common_options);
}

static int option_width(const struct program_option *option)
{
    return (int)(strlen(option->name) + (option->argument ? 1 + strlen(option->argument) : 0));
}

static void print_help(const struct program_usage *usage)
{
    int width = 0;

    printf("Usage: %s%s%s\n\n%s\n\n", usage->name, usage->arguments[0] ? " " : "", usage->arguments,
           usage->purpose);
    for (size_t i = 0; i < count_options(usage); i++)
        if (option_width(option_at(usage, i)) > width)
            width = option_width(option_at(usage, i));
    for (size_t i = 0; i < count_options(usage); i++) {
        const struct program_option *option = option_at(usage, i);

        printf("  --%s%s%s%*s  %s\n", option->name, option->argument ? " " : "",
               option->argument ? option->argument : "", width - option_width(option), "",
               option->help);
    }
    printf("\nExit status: %s.\n", usage->statuses);
}

static void print_version(const struct program_usage *usage)
{
    printf("%.*s " VIRTJOULE_VERSION "\n", (int)strcspn(usage->name, " "), usage->name);
}

static void set_target(const struct program_option *option)
{
    assert(!!option->text + !!option->flag + !!option->choice == 1);
    assert(!option->text == !option->argument);
    if (option->text)
        *option->text = optarg;
    else if (option->flag)
        *option->flag = true;
    else
        *option->choice = option->value;
}

static int take_operands(const struct program_usage *usage, int argc, char **argv)
{
    if (usage->subcommand) {
        *usage->subcommand = optind;
        return -1;
    }
    if (usage->operand && optind < argc)
        *usage->operand = argv[optind++];
    return optind < argc ? program_usage_error(usage, "unexpected argument \"%s\"", argv[optind])
                         : -1;
}

int program_parse(const struct program_usage *usage, int argc, char **argv)
{
    struct option options[PROGRAM_OPTIONS_MAX + ARRAY_SIZE(common_options) + 1] = {0};

    assert(usage->n_options <= PROGRAM_OPTIONS_MAX);
    for (size_t i = 0; i < count_options(usage); i++)
        options[i] = (struct option){
            .name = option_at(usage, i)->name,
            .has_arg = option_at(usage, i)->argument ? required_argument : no_argument,
            .val = FIRST + (int)i,
        };
    /* getopt's own messages begin with it; 0 has it begin anew. */
    argv[0] = (char *)usage->name;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, usage->subcommand ? "+" : "", options, NULL)) != -1;) {
        const struct program_option *option =
            c >= FIRST ? option_at(usage, (size_t)(c - FIRST)) : NULL;

        if (!option)
            return usage->wrong_usage;
        if (option == &common_options[0]) {
            print_version(usage);
            return EXIT_SUCCESS;
        }
        if (option == &common_options[1]) {
            print_help(usage);
            return EXIT_SUCCESS;
        }
        set_target(option);
    }
    return take_operands(usage, argc, argv);
}
