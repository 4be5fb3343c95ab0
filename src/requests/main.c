/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "requests/request_manager.h"
#include "util/file.h"
#include "util/log.h"

static const char usage_text[] =
    "Usage: virtjoule-requests [--config FILE] [--check-config]\n"
    "                          [--collect-csv FILE --collect-label LABEL]\n"
    "\n"
    "Reports what each HTTP request to this machine's servers costs in energy.\n"
    "\n"
    "  --config FILE          the configuration; without it the defaults hold\n"
    "  --check-config         validate the configuration and exit\n"
    "  --collect-csv FILE     also write one row per interval, to fit weights from\n"
    "  --collect-label LABEL  the text of the rows' column label\n"
    "  --version              print the version and exit\n"
    "  --help                 print this text and exit\n"
    "\n"
    "Exit status: 0 after SIGTERM, 1 on failure, 64 for wrong options,\n"
    "69 when the kernel lacks something, 78 when the configuration is wrong.\n";

struct arguments {
    const char *config_file;
    bool check_config;
    struct collect_options collect;
};

static int usage_error(const char *problem)
{
    fprintf(stderr, "virtjoule-requests: %s\n", problem);
    return EX_USAGE;
}

/* @return -1 to go on, else the exit status */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"collect-csv", required_argument, NULL, 'f'},
        {"collect-label", required_argument, NULL, 'l'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            ret->config_file = optarg;
            break;
        case 'k':
            ret->check_config = true;
            break;
        case 'f':
            ret->collect.path = optarg;
            break;
        case 'l':
            ret->collect.label = optarg;
            break;
        case 'v':
            puts("virtjoule-requests " VIRTJOULE_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return EX_USAGE;
        }
    }
    if (optind < argc)
        return usage_error("no arguments are expected beside the options");
    if (!ret->collect.path != !ret->collect.label)
        return usage_error("--collect-csv and --collect-label belong together");
    return -1;
}

static int run(const struct request_config *config, const struct collect_options *collect)
{
    struct request_manager *manager = NULL;
    int r = request_manager_new(&manager, config, collect);

    if (r == 0)
        r = request_manager_run(manager);
    request_manager_free(manager);
    if (r < 0)
        log_error("virtjoule-requests ends", F_ERROR(r));
    if (r == -EOPNOTSUPP)
        return EX_UNAVAILABLE;
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct request_config config;
    int status;

    if (open_standard_files() < 0)
        return EXIT_FAILURE;
    /* A log reader or a client that has gone is no reason to end. */
    signal(SIGPIPE, SIG_IGN);
    status = parse_arguments(argc, argv, &arguments);
    if (status >= 0)
        return status;
    request_config_init(&config);
    if (arguments.config_file && request_config_load(arguments.config_file, &config) < 0)
        return EX_CONFIG;
    if (arguments.check_config) {
        log_info("configuration valid");
        return EXIT_SUCCESS;
    }
    return run(&config, &arguments.collect);
}
