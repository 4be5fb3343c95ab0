/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source/sample.h"

#include "util/clock.h"
#include "util/log.h"

/* Shorter than any suspension; longer than the error of clock_suspended_ns(). */
#define SUSPENSION_MIN_NS (10 * NSEC_PER_MSEC)

static bool is_plausible(uint64_t energy_uj, uint64_t duration_ns)
{
    /* uJ/ns is 1000 W; at least a millisecond, the counters' own update time. */
    uint64_t duration = duration_ns > NSEC_PER_MSEC ? duration_ns : NSEC_PER_MSEC;

    return (__uint128_t)energy_uj * 1000 <= (__uint128_t)ZONE_POWER_MAX_W * duration;
}

/* @param slept_ns  between the readings; their CLOCK_MONOTONIC times leave it out */
static struct sample_zone difference(const struct zone *zone, const struct reading *last,
                                     const struct reading *now, uint64_t slept_ns)
{
    bool fell = now->energy_uj < last->energy_uj;
    struct sample_zone sample = {
        .duration_ns = now->time_ns - last->time_ns,
        .energy_uj = fell ? zone->max_energy_uj - last->energy_uj + now->energy_uj
                          : now->energy_uj - last->energy_uj,
    };

    sample.valid =
        !(fell && slept_ns > 0) && is_plausible(sample.energy_uj, sample.duration_ns + slept_ns);
    if (!sample.valid)
        log_warning("energy counter was reset, the energy since the last reading is unknown",
                    F_STRING("zone", zone->name), F_UINT("last_uj", last->energy_uj),
                    F_UINT("now_uj", now->energy_uj));
    return sample;
}

static uint64_t slept_since(const struct sampler *sampler, size_t slot)
{
    uint64_t now = sampler->suspended_after_ns, last = sampler->suspended_at_last_ns[slot];

    return now >= last + SUSPENSION_MIN_NS ? now - last : 0;
}

void sampler_take(struct sampler *sampler, const struct zone_set *zones,
                  const struct reading *readings, uint64_t time_ns, struct sample *ret)
{
    *ret = (struct sample){.time_ns = time_ns};
    for (size_t i = 0; i < zones->n; i++) {
        if (!readings[i].valid) {
            sampler->gap[i] = true;
            continue;
        }
        if (sampler->last[i].valid) {
            uint64_t slept_ns = slept_since(sampler, i);

            ret->zones[i] = difference(&zones->zones[i], &sampler->last[i], &readings[i], slept_ns);
            ret->zones[i].gap = sampler->gap[i] || slept_ns > 0;
        }
        sampler->last[i] = readings[i];
        sampler->suspended_at_last_ns[i] = sampler->suspended_before_ns;
        sampler->gap[i] = false;
    }
}
