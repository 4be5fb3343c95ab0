/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The configuration of virtjouled. Tables of keys name every section and key, how
 * it is parsed, where it is kept, and its default: one in config.c, and one with
 * each kind of meter (meter/meters.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attribution/model.h"
#include "attribution/static_policy.h"
#include "baseline/static_powers.h"
#include "meter/meters.h"
#include "source/estimate.h"
#include "source/zone.h"
#include "util/config_keys.h"

#define CONFIG_STATIC_POWERS_MAX ZONES_MAX
#define CONFIG_KEYS_MAX 128

struct config {
    uint64_t interval_ns;
    bool allow_fine_interval;
    char runtime_dir[CONFIG_PATH_MAX];
    char state_dir[CONFIG_PATH_MAX];

    char energy[CONFIG_PATH_MAX]; /* a row of ENERGY_SOURCES, or "auto" */
    char sysfs_root[CONFIG_PATH_MAX];
    struct estimate_curve estimate;

    struct meters_options meters;

    char libvirt_uri[CONFIG_PATH_MAX]; /* empty: off */
    bool procfs;
    char proc_root[CONFIG_PATH_MAX];

    char provider[CONFIG_PATH_MAX]; /* a row of USAGE_PROVIDERS, or "auto" */

    char model[CONFIG_PATH_MAX]; /* a name or an absolute path */
    struct model_options model_options;
    enum static_policy static_policy;
    bool publish_psys;
    char baseline_file[CONFIG_PATH_MAX];     /* empty: none */
    struct static_power other_static_powers; /* of zones without a setting */
    struct static_power_setting static_powers[CONFIG_STATIC_POWERS_MAX];
    size_t n_static_powers;

    char mountpoint[CONFIG_PATH_MAX];
    unsigned file_mode;
    uint32_t file_uid;
    uint32_t file_gid;
    uint64_t quantum_uj;

    char listen[CONFIG_PATH_MAX]; /* empty: off */
    char metrics_users[CONFIG_PATH_MAX];
};

/**
 * All keys, whichever table they come from, with their offsets in struct config.
 * @param ret  CONFIG_KEYS_MAX of them
 * @return how many
 */
size_t config_list_keys(struct config_key *ret);

/** The defaults. */
void config_init(struct config *config);

/**
 * Reads a configuration text over the defaults.
 * @param text  need not be NUL-terminated
 * @return 0, or -EINVAL and the first error
 */
int config_parse(const char *text, size_t length, struct config *ret,
                 struct config_error *ret_error);

/**
 * Reads a baseline file, as `virtjoule calibrate` writes it: a [baseline]
 * section of zones with their powers. Zones that the configuration names
 * itself stay as they are.
 * @param text  need not be NUL-terminated
 * @return 0, or -EINVAL and the first error; the configuration is then unchanged
 */
int config_parse_baselines(const char *text, size_t length, struct config *config,
                           struct config_error *ret_error);

/**
 * Reads a configuration file and the baseline file it names; errors are logged
 * with file, line, section and key.
 * @return 0, -EINVAL for the content, or the errno of reading a file
 */
int config_load(const char *path, struct config *ret);
