/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sysexits.h>

#include "daemon/config.h"
#include "daemon/manager.h"
#include "libvirt/metadata_writer.h"
#include "powercapfs/mount.h"
#include "util/descriptors.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/options.h"

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

/* For a daemon that may only read. */
static int write_metadata(const struct config *config)
{
    struct descriptors descriptors = {0};
    int r = descriptors_take(&descriptors);
    int fd = r < 0 ? r : descriptors_next(&descriptors, "metadata");

    descriptors_deinit(&descriptors);
    r = fd < 0 ? -ENOTCONN : metadata_writer_serve(fd, config->libvirt_uri);
    log_error("cannot listen for the daemon", F_ERROR(r));
    return EXIT_FAILURE;
}

enum action { ACTION_RUN, ACTION_CHECK, ACTION_MOUNT, ACTION_UNMOUNT, ACTION_WRITE_METADATA };

/* @return the exit status */
static int (*const actions[])(const struct config *config) = {
    [ACTION_RUN] = run,
    [ACTION_CHECK] = report_valid,
    [ACTION_MOUNT] = mount_trees,
    [ACTION_UNMOUNT] = unmount_trees,
    [ACTION_WRITE_METADATA] = write_metadata,
};

int main(int argc, char **argv)
{
    const char *config_file = NULL;
    int action = ACTION_RUN;
    const struct program_option options[] = {
        {"config", "FILE", "the configuration; without it the defaults hold", .text = &config_file},
        {"check-config", NULL,
         "validate the configuration, and the model file that it names, and exit",
         .choice = &action, .value = ACTION_CHECK},
        {"mount", NULL, "mount the powercap trees for the next daemon, unless they are, and exit",
         .choice = &action, .value = ACTION_MOUNT},
        {"unmount", NULL, "unmount the powercap trees and exit", .choice = &action,
         .value = ACTION_UNMOUNT},
        {"write-metadata", NULL, "write VMs' energy to libvirt for a daemon that only reads",
         .choice = &action, .value = ACTION_WRITE_METADATA},
    };
    const struct program_usage usage = {
        .name = "virtjouled",
        .arguments = "[--config FILE] [--check-config | --mount | --unmount | --write-metadata]",
        .purpose = "Gives every QEMU/KVM virtual machine of this host its own energy counter.",
        .statuses = "0 after SIGTERM, 1 on failure, 64 for wrong options,\n"
                    "69 when no energy can be read, 78 when the configuration is wrong",
        .wrong_usage = EX_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
    };
    struct config config;
    int status;

    if (open_standard_files() < 0)
        return EXIT_FAILURE;
    /* A log reader or a client that has gone is no reason to end. */
    signal(SIGPIPE, SIG_IGN);
    status = program_parse(&usage, argc, argv);
    if (status >= 0)
        return status;
    config_init(&config);
    if (config_file && config_load(config_file, &config) < 0)
        return EX_CONFIG;
    if (check_model(&config) < 0)
        return EX_CONFIG;
    return actions[action](&config);
}
