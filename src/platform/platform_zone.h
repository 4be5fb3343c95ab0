/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The platform's zone: the energy of the whole machine, as if a counter of it
 * had been read.
 *
 *     sample of the source's zones, usage --> load --(platform.h, meters' readings)--> energy
 *
 * The zone has the first slot, so that the source's zones can grow behind it.
 *
 * Without RAPL the machine's power stands for the processors': the zone is then
 * a package, and takes the place of the estimate in every interval in which it
 * is known. Guests see the sum of both.
 */

#include <stdbool.h>
#include <stddef.h>

#include "baseline/static_power.h"
#include "platform/platform.h"
#include "source/sample.h"
#include "source/zone.h"
#include "usage/usage.h"

#define PLATFORM_SLOT 0
/** The source label of the platform's energy. */
#define PLATFORM_SOURCE "modelled"

/** The platform's zone. @param has_rapl  the other zones are RAPL's, not an estimate */
struct zone platform_zone(bool has_rapl);

/** One interval. */
struct platform_zone_input {
    const struct zone_set *zones; /* the platform's first, then the source's */
    const struct usage *usage;
    const struct platform_reading *readings;  /* of each meter, as platform_advance() has them */
    const struct static_power *static_powers; /* by slot; the platform's is not looked at */
    uint64_t duration_ns;                     /* the interval ends at the sample's time; above 0 */
};

/** What is known of the zone, beside its energy. */
struct platform_zone_result {
    struct static_power static_power;
    uint64_t io_pj_per_byte; /* what a byte of block I/O counts, picojoules of RAPL energy */
};

/**
 * Takes in one interval.
 *
 * A host that has a psys counter has its whole power measured: the meters are
 * learned from, but the platform's zone has no energy.
 *
 * @param sample  of the source's zones; the platform's energy is added, if it is known
 * @param ret     untouched where the energy is not known
 * @return whether the energy is known
 */
bool platform_zone_advance(struct platform *platform, const struct platform_zone_input *input,
                           struct sample *sample, struct platform_zone_result *ret);
