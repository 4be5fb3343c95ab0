/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The configuration of virtjoule-requests: what is accepted is within the bounds relied on. */

#include "fuzz.h"

#include "requests/cgroup.h"
#include "requests/request_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request_config config;
    struct config_error error;

    if (request_config_parse((const char *)data, size, &config, &error) < 0) {
        require(error.problem[0] != '\0' && error.line >= 0);
        return 0;
    }
    require(config.psys_interval_ms >= 10 && config.psys_interval_ms <= 60000);
    require(config.weights.default_multiplier >= 0);
    require(config.weights.default_multiplier <= REQUEST_RATE_MAX);
    require(config.weights.wakeup <= REQUEST_PENALTY_MAX);
    require(config.n_cgroups <= REQUEST_CGROUPS_MAX);
    for (size_t i = 0; i < config.n_cgroups; i++)
        require(cgroup_is_path(config.cgroups[i]) || cgroup_is_unit(config.cgroups[i]));
    require(config.weights.n_frequencies <= REQUEST_MULTIPLIERS_MAX);
    for (size_t i = 1; i < config.weights.n_frequencies; i++)
        require(config.weights.frequencies[i - 1].khz < config.weights.frequencies[i].khz);
    require(config.tree[0] == '\0' || config.tree[0] == '/');
    return 0;
}
