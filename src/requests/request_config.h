/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The configuration of virtjoule-requests: one flat list of keys, without
 * sections.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/config_keys.h"

#define REQUEST_CGROUPS_MAX 64
#define REQUEST_MULTIPLIERS_MAX 128
/**
 * Greatest weight of a nanosecond of CPU time, a cycle, an instruction, a cache miss: 64 bits
 * of the kernel's hold those of 60 s at 6 GHz with four instructions a cycle.
 */
#define REQUEST_RATE_MAX 10.0
/** Greatest weight of a wakeup and of a migration. */
#define REQUEST_PENALTY_MAX 1e6

enum attribution_mode {
    ATTRIBUTION_PSYS,  /* the tree's energy over the work of all tasks */
    ATTRIBUTION_MODEL, /* the weights are microjoules */
};

/** "psys" or "model". */
const char *attribution_mode_to_string(enum attribution_mode mode);

/** Work per unit of each kind; in mode model the unit of work is the microjoule. */
struct request_weights {
    double default_multiplier; /* per ns of CPU time at a frequency that has no multiplier */
    double wakeup;             /* per wakeup, and so on */
    double cycles;
    double instructions;
    double cache_miss;
    double migration;
    size_t n_frequencies;
    struct frequency_multiplier {
        uint32_t khz;
        double multiplier;                  /* per ns of CPU time at this frequency */
    } frequencies[REQUEST_MULTIPLIERS_MAX]; /* by rising frequency */
};

struct request_config {
    enum attribution_mode mode;
    struct request_weights weights;
    uint64_t idle_power_uw;     /* what the tree shows without load: unattributed */
    uint64_t psys_interval_ms;  /* how often the tree is read: 10 to 60000 */
    char tree[CONFIG_PATH_MAX]; /* holds class/powercap; empty: see powercap_reader_new() */
    size_t n_cgroups;
    char cgroups[REQUEST_CGROUPS_MAX][CONFIG_PATH_MAX]; /* absolute paths, or names of units */
    char access_log[CONFIG_PATH_MAX];                   /* empty: off */
    uint64_t access_log_max_bytes;                      /* 0: no limit */
    char listen[CONFIG_PATH_MAX];                       /* metrics; empty: off */
};

/** Every key but those that may be given several times: cgroup and freq_khz. */
extern const struct config_keys request_config_keys;

/** The defaults. */
void request_config_init(struct request_config *config);

/**
 * Reads a configuration text over the defaults.
 * @param text  need not be NUL-terminated
 * @return 0, or -EINVAL and the first error
 */
int request_config_parse(const char *text, size_t length, struct request_config *ret,
                         struct config_error *ret_error);

/**
 * Reads a configuration file; errors are logged with file, line and key.
 * @return 0, -EINVAL for the content, or the errno of reading the file
 */
int request_config_load(const char *path, struct request_config *ret);
