/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/file.h"
#include "util/options.h"

#define WRONG 64

enum side { NEITHER, LEFT, RIGHT };

struct result {
    int status;
    const char *path, *operand;
    bool loud;
    int side, subcommand;
};

/* A program that is called with words, which blanks separate. */
static struct result call(const char *words, bool has_subcommands)
{
    static char text[128];
    char *argv[16] = {(char[]){"program"}};
    struct result result = {.path = "default", .subcommand = -1};
    const struct program_option options[] = {
        {"path", "PATH", "a path", .text = &result.path},
        {"loud", NULL, "not quiet", .flag = &result.loud},
        {"left", NULL, "not right", .choice = &result.side, .value = LEFT},
        {"right", NULL, "not left", .choice = &result.side, .value = RIGHT},
    };
    const struct program_usage usage = {
        .name = "program name",
        .arguments = "[OPTION]... [OPERAND]",
        .purpose = "Does something.",
        .statuses = "0 always",
        .wrong_usage = WRONG,
        .options = options,
        .n_options = ELEMENTS(options),
        .operand = has_subcommands ? NULL : &result.operand,
        .subcommand = has_subcommands ? &result.subcommand : NULL,
    };
    int argc = 1;

    snprintf(text, sizeof(text), "%s", words);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    result.status = program_parse(&usage, argc, argv);
    return result;
}

/* What a call prints. */
static const char *output_of(const char *words, int descriptor)
{
    static char text[2048];
    char path[] = "/tmp/virtjoule-options-XXXXXX";
    int fd = mkstemp(path), kept = dup(descriptor);

    assert_true(fd >= 0 && kept >= 0);
    fflush(NULL);
    dup2(fd, descriptor);
    call(words, false);
    fflush(NULL);
    dup2(kept, descriptor);
    close(kept);
    close(fd);
    assert_true(read_file(AT_FDCWD, path, text, sizeof(text)) >= 0);
    unlink(path);
    return text;
}

static void test_targets(void **state)
{
    struct result result = call("--left --path /x operand --loud --right", false);

    assert_int_equal(result.status, -1);
    assert_string_equal(result.path, "/x");
    assert_string_equal(result.operand, "operand");
    assert_true(result.loud);
    assert_int_equal(result.side, RIGHT); /* the last one counts */
    result = call("", false);
    assert_int_equal(result.status, -1);
    assert_string_equal(result.path, "default");
    assert_null(result.operand);
    assert_false(result.loud);
    assert_int_equal(result.side, NEITHER);
    assert_string_equal(call("--path=/y -- --loud", false).operand, "--loud");
}

static void test_wrong_usage(void **state)
{
    static const char *const cases[] = {"--no", "--path", "--loud=1", "one two", "-x"};

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(call(cases[i], false).status, WRONG);
    assert_string_equal(output_of("--no", STDERR_FILENO),
                        "program name: unrecognized option '--no'\n");
    assert_string_equal(output_of("one two", STDERR_FILENO),
                        "program name: unexpected argument \"two\"; see program name --help\n");
}

/* What follows a subcommand is the subcommand's. */
static void test_subcommand(void **state)
{
    struct result result = call("--loud sub --path /x", true);

    assert_int_equal(result.status, -1);
    assert_true(result.loud);
    assert_int_equal(result.subcommand, 2);
    assert_string_equal(result.path, "default");
    assert_int_equal(call("--loud", true).subcommand, 2); /* argc: there is none */
}

static void test_help(void **state)
{
    assert_int_equal(call("--help", false).status, EXIT_SUCCESS);
    assert_string_equal(output_of("--help", STDOUT_FILENO),
                        "Usage: program name [OPTION]... [OPERAND]\n"
                        "\n"
                        "Does something.\n"
                        "\n"
                        "  --path PATH  a path\n"
                        "  --loud       not quiet\n"
                        "  --left       not right\n"
                        "  --right      not left\n"
                        "  --version    print the version and exit\n"
                        "  --help       print this text and exit\n"
                        "\n"
                        "Exit status: 0 always.\n");
    assert_string_equal(output_of("--version", STDOUT_FILENO), "program " VIRTJOULE_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_subcommand),
        cmocka_unit_test(test_help),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
