/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "source/zone.h"

/** A zone's counter at one moment. */
struct reading {
    bool valid;         /* false: the zone could not be read this time */
    uint64_t energy_uj; /* 0 .. max_energy_uj */
    uint64_t time_ns;   /* CLOCK_MONOTONIC */
};

/** The energy that one zone used since it was last read successfully. */
struct sample_zone {
    bool valid;           /* false: the energy of this interval is not known (yet) */
    bool gap;             /* longer than the interval of the usage: readings failed in between, or
                             the machine slept */
    uint64_t energy_uj;   /* wrap-safe difference of the two readings */
    uint64_t duration_ns; /* measured, not assumed; awake */
};

/** The energy of all zones over one interval; indexed by zone slot. */
struct sample {
    uint64_t time_ns; /* CLOCK_MONOTONIC at the end of the interval */
    struct sample_zone zones[ZONES_MAX];
};

/** Remembers each zone's last good reading. Zero-initialised. */
struct sampler {
    struct reading last[ZONES_MAX];
    bool gap[ZONES_MAX];
    /* clock_suspended_ns() before and after the zones are read, because the machine may sleep in
     * between; or always 0. Set before each sampler_take(). */
    uint64_t suspended_before_ns, suspended_after_ns;
    uint64_t suspended_at_last_ns[ZONES_MAX]; /* 0 after a restart: it may have slept meanwhile */
};

/**
 * Turns readings into a sample.
 *
 * A counter that fell is a wrap: energy = max_energy_uj - last + now, as every
 * reader of powercap reckons. The maximum is the counter's last value before 0,
 * so each wrap loses one unit of the counter.
 * A difference that would mean more power than ZONE_POWER_MAX_W is no energy,
 * but shows that the counter was reset (module reloaded, host resumed, zone
 * replaced): the energy used meanwhile is unknown, and the counter starts anew.
 *
 * Suspension of the machine: in suspend-to-idle counters run on, maybe for longer
 * than CLOCK_MONOTONIC does; in suspend-to-RAM the packages are off, and their
 * counters begin at zero. So an interval in which the machine slept is a gap; if
 * it slept during a reading, both intervals that meet there are. Their energy is
 * checked against all of their time, and a counter that fell was reset: it may
 * have wrapped as well, any number of times. The energy of a gap is static for
 * the time awake, and unattributed beyond that.
 *
 * @param readings  by zone slot, zones->n of them
 * @param time_ns   CLOCK_MONOTONIC of the tick
 */
void sampler_take(struct sampler *sampler, const struct zone_set *zones,
                  const struct reading *readings, uint64_t time_ns, struct sample *ret);

/** More than any socket, memory or board draws; bounds what may be taken for a wrap. */
#define ZONE_POWER_MAX_W 5000
