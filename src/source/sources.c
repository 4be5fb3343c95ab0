/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source/sources.h"

#include <errno.h>
#include <string.h>

#include "source/rapl.h"
#include "util/log.h"
#include "util/macros.h"

/* Makers: each logs why the source that the configuration names cannot be made, and what it means
   that another one is taken. @param previous  why the source before it was not taken, 0: none was
   tried */

static int make_rapl(struct energy_source **ret, const struct energy_source_options *options,
                     int previous)
{
    int r = rapl_new(ret, options->sysfs_root);

    if (r < 0 && strcmp(options->name, "auto") != 0)
        log_error("no RAPL zone can be read", F_STRING("sysfs_root", options->sysfs_root),
                  F_ERROR(r));
    return r;
}

static int make_estimate(struct energy_source **ret, const struct energy_source_options *options,
                         int previous)
{
    if (previous < 0)
        log_warning("no RAPL zone can be read: all energy is an ESTIMATE from CPU utilisation, "
                    "not a measurement",
                    F_STRING("sysfs_root", options->sysfs_root), F_ERROR(previous),
                    F_UINT("idle_mw", options->estimate.idle_uw / 1000),
                    F_UINT("max_mw", options->estimate.max_uw / 1000));
    return estimate_new(ret, &options->estimate, options->proc_root);
}

static const struct {
    const char *name;
    int (*make)(struct energy_source **ret, const struct energy_source_options *options,
                int previous);
} sources[] = {
#define ROW(source) {#source, make_##source},
    ENERGY_SOURCES(ROW)};

int energy_source_open(struct energy_source **ret, const struct energy_source_options *options)
{
    bool any = strcmp(options->name, "auto") == 0;
    int r = 0;

    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        if (!any && strcmp(sources[i].name, options->name) != 0)
            continue;
        r = sources[i].make(ret, options, r);
        if (r == 0)
            return 0;
    }
    return r < 0 ? r : -EINVAL;
}
