/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The static power of every zone: given, learned from each interval's energy
 * and usage, or set by the platform, which learns its own.
 *
 * A learner's load is the zone's busy cores: the CPU time of all entities on its
 * socket, where time with a busy SMT sibling counts half, so that two siblings
 * make one core. Memory is kept busy by the same cores; where last-level cache
 * misses are counted they are the better measure of memory's load.
 */

#include "baseline/static_power.h"
#include "source/sample.h"
#include "source/zone.h"
#include "usage/usage.h"

/** The static power that a zone begins with; state STATIC_LEARNING makes it learn. */
struct static_power_setting {
    char zone[ZONE_NAME_MAX];
    struct static_power static_power;
};

struct static_powers;

/**
 * @param settings   n of them; copied
 * @param others     of the zones that have no setting
 * @param by_cycles  VMs are charged for the cycles that they use, not for their CPU time
 * @return 0 or -ENOMEM
 */
int static_powers_new(struct static_powers **ret, const struct static_power_setting *settings,
                      size_t n, struct static_power others, bool by_cycles);
/** NULL is accepted. @return NULL */
struct static_powers *static_powers_free(struct static_powers *static_powers);

/** Takes in new zones: their given static power is known from now on. @return 0 or -ENOMEM */
int static_powers_add_zones(struct static_powers *static_powers, const struct zone_set *zones);

/** Lets the zone in a slot, if it learns, begin with the power that an earlier daemon learned. */
void static_powers_resume(struct static_powers *static_powers, size_t slot,
                          const struct static_power *learned);

/**
 * Sets the static power of a zone that is known elsewhere: from now on nothing is learned of it.
 * @param slot  of a zone that was taken in
 */
void static_powers_set(struct static_powers *static_powers, size_t slot,
                       const struct static_power *static_power);

/**
 * Takes in the zones and one interval, before it is divided: it shows the drift of the static
 * power, and the least power yet.
 * @return 0 or -ENOMEM, then some zones may have learned nothing from it
 */
int static_powers_update(struct static_powers *static_powers, const struct zone_set *zones,
                         const struct sample *sample, const struct usage *usage);

/** What is known of all zones, by slot: ZONES_MAX of them. Valid as long as the object. */
const struct static_power *static_powers_by_slot(const struct static_powers *static_powers);

/**
 * What is known of the zone in a slot; nothing before it was taken in.
 * @param slot  below ZONES_MAX
 */
const struct static_power *static_powers_get(const struct static_powers *static_powers,
                                             size_t slot);

/**
 * How busy a zone was: busy cores, or cache misses per second.
 * @param duration_ns  of the interval, above 0
 */
double zone_load(const struct zone *zone, const struct usage *usage, uint64_t duration_ns);
