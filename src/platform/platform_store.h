/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where it is kept what was learned of the meters: <runtime_dir>/platform.
 *
 *     platform --(whenever it has learned)--> file --(at start)--> next platform
 *
 * One line for each meter: its name, what the load is in ("watts" of RAPL or
 * busy "cores"), then the numbers of struct platform_estimate. A relation that
 * is no longer so does no harm: no meter is believed before a reading of its own
 * agrees.
 */

#include "platform/platform.h"

#define PLATFORM_RELATION_MAX 256

/** What was learned of one meter. */
struct platform_relation {
    char meter[16];
    bool is_power; /* as in struct platform_interval */
    struct platform_estimate estimate;
};

/**
 * Parses one line, without its newline.
 * @return 0, -EINVAL for what is not of the form, -ERANGE for what no fit gives
 */
int platform_relation_parse(const char *text, size_t length, struct platform_relation *ret);

/** Formats one line, with its newline. @return its length, or -ENOSPC */
int platform_relation_format(const struct platform_relation *relation, char *text, size_t size);

/**
 * Loads what there is.
 * @param ret  PLATFORM_METERS_MAX of them
 * @return how many, 0 when there is no file, or none that can be used (logged)
 */
size_t platform_store_load(const char *runtime_dir, struct platform_relation *ret);

/** Takes the place of what was kept. @return 0 or a negative errno */
int platform_store_save(const char *runtime_dir, const struct platform_relation *relations,
                        size_t n);
