/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The file that keeps what was learned of the meters: <runtime_dir>/platform.
 *
 *     platform --(whenever it has learned)--> file --(at start)--> next platform
 *
 * One line for each meter: its name, the unit of the load ("watts" of RAPL or
 * busy "cores"), then the numbers of struct platform_estimate. An outdated
 * relation does no harm: no meter is believed before one of its readings agrees.
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
 * @return 0, -EINVAL for another form, -ERANGE for numbers that no fit gives
 */
int platform_relation_parse(const char *text, size_t length, struct platform_relation *ret);

/** Formats one line, with its newline. @return its length, or -ENOSPC */
int platform_relation_format(const struct platform_relation *relation, char *text, size_t size);

/**
 * Loads all relations.
 * @param ret  PLATFORM_METERS_MAX of them
 * @return how many, 0 when there is no file, or none that can be used (logged)
 */
size_t platform_store_load(const char *runtime_dir, struct platform_relation *ret);

/** Replaces the file. @return 0 or a negative errno */
int platform_store_save(const char *runtime_dir, const struct platform_relation *relations,
                        size_t n);

/** The relations of a platform's meters. The other members are zero-initialised. */
struct platform_store {
    const char *runtime_dir;
    bool is_power; /* as in struct platform_interval */
    size_t n;      /* meters, and their names, unique */
    const char *meters[PLATFORM_METERS_MAX];

    struct platform_estimate kept[PLATFORM_METERS_MAX]; /* as of the last attempt */
    int error; /* of the last attempt to keep them, as logged; 0: it succeeded */
};

/** Goes on with what a former daemon learned of these meters for a load in the same unit. */
void platform_store_restore(const struct platform_store *store, struct platform *platform);

/** Keeps what was learned of the meters, when it has changed. A failure is logged once. */
void platform_store_keep(struct platform_store *store, const struct platform *platform);
