/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration: what is accepted is within the bounds that the daemon relies on. */

#include "fuzz.h"

#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_error error;
    struct config config;

    config_init(&config);
    if (config_parse_baselines((const char *)data, size, &config, &error) == 0)
        require(config.n_static_powers <= CONFIG_STATIC_POWERS_MAX);
    if (config_parse((const char *)data, size, &config, &error) < 0) {
        require(error.problem[0] != '\0' && error.line >= 0);
        return 0;
    }
    require(config.interval_ns >= 100000000 && config.interval_ns <= 60000000000);
    require(config.estimate.max_uw >= config.estimate.idle_uw && config.estimate.exponent > 0);
    require(attribution_model_is_name(config.model));
    require(config.model_options.smt_power_ratio >= 1 && config.model_options.smt_power_ratio <= 2);
    require(config.model_options.curve_exponent > 0 && config.model_options.curve_exponent <= 1);
    require(config.n_static_powers <= CONFIG_STATIC_POWERS_MAX);
    require(config.mountpoint[0] == '/' && config.runtime_dir[0] == '/');
    require((config.file_mode & ~0444u) == 0);
    return 0;
}
