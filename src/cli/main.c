/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cli/attach.h"
#include "cli/calibrate.h"
#include "cli/client.h"
#include "cli/doctor.h"
#include "cli/print.h"
#include "util/cleanup.h"
#include "util/log.h"

/* The exit statuses of every command. */
enum {
    STATUS_NO = 1, /* the answer is no */
    STATUS_USAGE = 2,
    STATUS_UNAVAILABLE = EX_UNAVAILABLE, /* 69: the daemon is not there */
};

static const char usage_text[] =
    "Usage: virtjoule [--socket PATH] COMMAND [--json]\n"
    "\n"
    "  list            all virtual machines and their energy\n"
    "  show VM         one of them, by name or UUID\n"
    "  show --host     the host's zones: measured, host, static and unattributed energy\n"
    "  prepare UUID    make the share of a virtual machine that is about to start\n"
    "  attach DOMAIN   give a libvirt domain its share; see attach --help\n"
    "  detach DOMAIN   take it away again\n"
    "  calibrate       measure the static power of the zones; see calibrate --help\n"
    "  doctor          what is wrong, on a host or in a guest, and its cure; see doctor --help\n"
    "\n"
    "  --json          print the daemon's answer as JSON\n"
    "  --socket PATH   where virtjouled listens (default /run/virtjoule/control.sock)\n"
    "  --version       print the version and exit\n"
    "  --help          print this text and exit\n"
    "\n"
    "Exit status: 0 success, 1 no such VM, 2 wrong usage, 69 no daemon.\n";

struct options {
    const char *socket_path;
    bool json;
    bool host;
    int argc; /* what is left: the command and its arguments */
    char **argv;
};

struct command {
    const char *name;
    /* Makes the request. @return 0 or STATUS_USAGE */
    int (*request)(const struct options *options, struct json_object *request);
    void (*print)(FILE *stream, struct json_object *answer);
};

static int usage_error(const char *problem)
{
    fprintf(stderr, "virtjoule: %s; see virtjoule --help\n", problem);
    return STATUS_USAGE;
}

static int request_list(const struct options *options, struct json_object *request)
{
    if (options->argc != 1 || options->host)
        return usage_error("list takes no arguments");
    return 0;
}

static int request_show(const struct options *options, struct json_object *request)
{
    if (options->argc != (options->host ? 1 : 2))
        return usage_error("show takes the name or UUID of a VM, or --host");
    if (!options->host)
        json_object_object_add(request, "vm", json_object_new_string(options->argv[1]));
    return 0;
}

static int request_prepare(const struct options *options, struct json_object *request)
{
    if (options->argc != 2 || options->host)
        return usage_error("prepare takes the UUID of a VM");
    json_object_object_add(request, "vm", json_object_new_string(options->argv[1]));
    return 0;
}

static void print_prepare(FILE *stream, struct json_object *answer)
{
    fprintf(stream, "%s\n", json_object_get_string(json_object_object_get(answer, "tree")));
}

static void print_show(FILE *stream, struct json_object *answer)
{
    if (json_object_object_get(answer, "uuid"))
        print_vm(stream, answer);
    else
        print_host(stream, answer);
}

static const struct command commands[] = {
    {"list", request_list, print_list},
    {"show", request_show, print_show},
    {"prepare", request_prepare, print_prepare},
};

/* Commands that do more than ask the daemon, and read their own arguments. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} local_commands[] = {
    {"attach", attach_command},
    {"calibrate", calibrate_command},
    {"detach", detach_command},
    {"doctor", doctor_command},
};

static void release_json(struct json_object *object)
{
    json_object_put(object);
}
DEFINE_CLEANUP(struct json_object *, release_json);

static int check_answer(struct json_object *answer)
{
    struct json_object *error = json_object_object_get(answer, "error");

    if (!error)
        return EXIT_SUCCESS;
    fprintf(stderr, "virtjoule: %s\n", json_object_get_string(error));
    return STATUS_NO;
}

static int run(const struct command *command, const struct options *options)
{
    _cleanup_(cleanup_release_json) struct json_object *request = json_object_new_object();
    _cleanup_(cleanup_release_json) struct json_object *answer = NULL;
    int status, r;

    json_object_object_add(request, "command", json_object_new_string(command->name));
    status = command->request(options, request);
    if (status)
        return status;
    r = client_ask(options->socket_path, request, &answer);
    if (r < 0) {
        fprintf(stderr, "virtjoule: no answer from virtjouled at %s: %s\n", options->socket_path,
                log_errno_text(r));
        return STATUS_UNAVAILABLE;
    }
    status = check_answer(answer);
    if (options->json)
        puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY |
                                                        JSON_C_TO_STRING_NOSLASHESCAPE));
    else if (status == EXIT_SUCCESS)
        command->print(stdout, answer);
    return status;
}

/* @return -1 to go on, else the exit status */
static int parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"host", no_argument, NULL, 'H'},         {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            ret->socket_path = optarg;
            break;
        case 'j':
            ret->json = true;
            break;
        case 'H':
            ret->host = true;
            break;
        case 'v':
            puts("virtjoule " VIRTJOULE_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return STATUS_USAGE;
        }
    }
    ret->argc = argc - optind;
    ret->argv = argv + optind;
    return -1;
}

int main(int argc, char **argv)
{
    struct options options = {.socket_path = "/run/virtjoule/control.sock"};
    int status;

    for (size_t i = 0; argc > 1 && i < sizeof(local_commands) / sizeof(local_commands[0]); i++)
        if (strcmp(argv[1], local_commands[i].name) == 0)
            return local_commands[i].run(argc - 1, argv + 1);
    status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    if (options.argc == 0)
        return usage_error("no command given");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(options.argv[0], commands[i].name) == 0)
            return run(&commands[i], &options);
    return usage_error("unknown command");
}
