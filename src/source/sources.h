/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The energy sources that there are: a row of ENERGY_SOURCES each, and its maker in
 * sources.c. See docs/extending.md.
 */

#include "source/energy_source.h"
#include "source/estimate.h"

/** The most exact first: "auto" takes the first one that works. */
#define ENERGY_SOURCES(SOURCE) SOURCE(rapl) SOURCE(estimate)

/** What the configuration says of the sources. */
struct energy_source_options {
    const char *name; /* of a row, or "auto" */
    const char *sysfs_root;
    const char *proc_root;
    struct estimate_curve estimate;
};

/**
 * Makes the source that the options name, or the first one that works.
 * @return 0, or a negative errno, the last one's with "auto"; logged. -EINVAL: there is no such row
 */
int energy_source_open(struct energy_source **ret, const struct energy_source_options *options);
