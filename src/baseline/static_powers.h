/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The static power of every zone: given, or learned from each interval's
 * energy and usage.
 *
 * A learner's load is the zone's busy cores: the CPU time of everybody on its
 * socket, where time with a busy SMT sibling counts half, so that two siblings
 * make one core. Memory is kept busy by the same cores; where last-level cache
 * misses are counted they are the better measure of it.
 */

#include "baseline/static_power.h"
#include "source/sample.h"
#include "source/zone.h"
#include "usage/usage.h"

/** What a zone begins with; state STATIC_LEARNING makes it learn. */
struct static_power_setting {
    char zone[ZONE_NAME_MAX];
    struct static_power static_power;
};

struct static_powers;

/**
 * @param settings  n of them; copied
 * @param others    of the zones that have no setting
 * @return 0 or -ENOMEM
 */
int static_powers_new(struct static_powers **ret, const struct static_power_setting *settings,
                      size_t n, struct static_power others);
/** NULL is accepted. @return NULL */
struct static_powers *static_powers_free(struct static_powers *static_powers);

/** Takes in the zones: what is given is known from now on. @return 0 or -ENOMEM */
int static_powers_add_zones(struct static_powers *static_powers, const struct zone_set *zones);

/** Lets the zone in a slot, if it learns, begin with what an earlier daemon had learned. */
void static_powers_resume(struct static_powers *static_powers, size_t slot,
                          const struct static_power *learned);

/**
 * Takes in the zones and one interval; for the intervals that follow it.
 * @return 0 or -ENOMEM, then some zones may have learned nothing from it
 */
int static_powers_update(struct static_powers *static_powers, const struct zone_set *zones,
                         const struct sample *sample, const struct usage *usage);

/** What is known of the zone in a slot; before it was taken in, nothing. */
const struct static_power *static_powers_get(const struct static_powers *static_powers,
                                             size_t slot);

/**
 * What kept a zone busy: busy cores, or cache misses per second.
 * @param duration_ns  of the interval, above 0
 */
double zone_load(const struct zone *zone, const struct usage *usage, uint64_t duration_ns);
