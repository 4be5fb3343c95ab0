/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "daemon/config.h"
#include "daemon/manager.h"
#include "powercapfs/mount.h"
#include "util/file.h"
#include "util/log.h"

static const char usage_text[] =
    "Usage: virtjouled [--config FILE] [--check-config | --mount | --unmount]\n"
    "\n"
    "Gives every QEMU/KVM virtual machine of this host its own energy counter.\n"
    "\n"
    "  --config FILE    the configuration; without it the defaults hold\n"
    "  --check-config   validate the configuration, and the model file that it names, and exit\n"
    "  --mount          mount the powercap trees for the daemon that the service manager starts "
    "next,\n"
    "                   unless they are, and exit\n"
    "  --unmount        unmount the powercap trees and exit\n"
    "  --version        print the version and exit\n"
    "  --help           print this text and exit\n"
    "\n"
    "Exit status: 0 after SIGTERM, 1 on failure, 64 for wrong options,\n"
    "69 when no energy can be read, 78 when the configuration is wrong.\n";

struct arguments {
    const char *config_file;
    int (*action)(const struct config *config); /* @return the exit status */
};

/* A model file is part of the configuration: its errors are reported before anything starts. */
static int check_model(const struct config *config)
{
    struct attribution_model *model = NULL;
    int r = attribution_model_open(config->model, &config->model_options, &model);

    attribution_model_free(model);
    return r;
}

static int run(const struct config *config)
{
    struct manager *manager = NULL;
    int r = manager_new(&manager, config);

    if (r < 0)
        log_error("virtjouled cannot start", F_ERROR(r));
    /* Asked for RAPL, and there is none. */
    if (r == -ENOENT || r == -ENODEV)
        return EX_UNAVAILABLE;
    if (r == 0)
        r = manager_run(manager);
    manager_free(manager);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int report_valid(const struct config *config)
{
    log_info("configuration valid");
    return EXIT_SUCCESS;
}

static int mount_trees(const struct config *config)
{
    return manager_mount(config) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int unmount_trees(const struct config *config)
{
    return mountpoint_release(config->mountpoint) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* @return -1 to go on, else the exit status */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"mount", no_argument, NULL, 'm'},
        {"unmount", no_argument, NULL, 'u'},
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
            ret->action = report_valid;
            break;
        case 'm':
            ret->action = mount_trees;
            break;
        case 'u':
            ret->action = unmount_trees;
            break;
        case 'v':
            puts("virtjouled " VIRTJOULE_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "virtjouled: unexpected argument \"%s\"\n", argv[optind]);
        return EX_USAGE;
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.action = run};
    struct config config;
    int status;

    if (open_standard_files() < 0)
        return EXIT_FAILURE;
    /* A log or a client that has gone is no reason to end. */
    signal(SIGPIPE, SIG_IGN);
    status = parse_arguments(argc, argv, &arguments);
    if (status >= 0)
        return status;
    config_init(&config);
    if (arguments.config_file && config_load(arguments.config_file, &config) < 0)
        return EX_CONFIG;
    if (check_model(&config) < 0)
        return EX_CONFIG;
    return arguments.action(&config);
}
