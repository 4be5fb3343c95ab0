/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform/platform_zone.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "baseline/static_powers.h"
#include "util/clock.h"

struct zone platform_zone(bool has_rapl)
{
    struct zone zone = {
        .name = "platform",
        .kind = ZONE_PSYS,
        .socket = ZONE_ALL_SOCKETS,
        .max_energy_uj = UINT64_MAX,
        .source = PLATFORM_SOURCE,
    };

    if (!has_rapl) {
        zone.kind = ZONE_PACKAGE;
        snprintf(zone.name, sizeof(zone.name), "package-0");
    }
    return zone;
}

static bool has_rapl(const struct zone_set *zones)
{
    return zones->zones[PLATFORM_SLOT].kind == ZONE_PSYS;
}

/* The platform contains these; core and uncore are parts of packages, psys is the platform. */
static bool is_part(const struct zone *zone)
{
    return zone->kind == ZONE_PACKAGE || zone->kind == ZONE_DRAM;
}

static bool has_psys(const struct zone_set *zones)
{
    for (size_t slot = PLATFORM_SLOT + 1; slot < zones->n; slot++)
        if (zones->zones[slot].kind == ZONE_PSYS)
            return true;
    return false;
}

/* @return false when the power is not known */
static bool rapl_watts(const struct zone_set *zones, const struct sample *sample, double *ret)
{
    *ret = 0;
    for (size_t slot = PLATFORM_SLOT + 1; slot < zones->n; slot++) {
        const struct sample_zone *zone = &sample->zones[slot];

        if (!is_part(&zones->zones[slot]))
            continue;
        if (!zone->valid || zone->gap || zone->duration_ns == 0)
            return false;
        /* uJ/ns is 1000 W. */
        *ret += (double)zone->energy_uj / (double)zone->duration_ns * 1000;
    }
    return true;
}

/* @return false when the load is not known */
static bool get_load(const struct platform_zone_input *input, const struct sample *sample,
                     struct platform_load *ret)
{
    uint64_t io_bytes = 0;

    for (size_t i = 0; i < usage_n_entities(input->usage); i++)
        io_bytes += usage_entity(input->usage, i)->io_bytes;
    ret->io = (double)io_bytes * (double)NSEC_PER_SEC / (double)input->duration_ns;
    if (has_rapl(input->zones))
        return rapl_watts(input->zones, sample, &ret->base);
    ret->base = zone_load(&input->zones->zones[PLATFORM_SLOT], input->usage, input->duration_ns);
    return sample->zones[PLATFORM_SLOT + 1].valid && !sample->zones[PLATFORM_SLOT + 1].gap;
}

/* The relation's constant, and the part of its slope that the zones' static power makes up. */
static struct static_power get_static_power(const struct platform_zone_input *input,
                                            const struct platform_estimate *estimate)
{
    double watts = estimate->static_watts, variance = pow(estimate->static_sigma, 2);
    const struct zone_set *zones = input->zones;

    for (size_t slot = PLATFORM_SLOT + 1; has_rapl(zones) && slot < zones->n; slot++) {
        const struct static_power *part = &input->static_powers[slot];

        if (!is_part(&zones->zones[slot]))
            continue;
        watts += estimate->slope * (double)part->power_uw / 1e6;
        variance += pow(estimate->slope * (double)part->uncertainty_uw / 1e6, 2);
    }
    return (struct static_power){
        .origin = STATIC_FROM_LOAD,
        .state = estimate->state,
        .power_uw = (uint64_t)(watts * 1e6),
        .uncertainty_uw = (uint64_t)(sqrt(variance) * 1e6),
    };
}

bool platform_zone_advance(struct platform *platform, const struct platform_zone_input *input,
                           struct sample *sample, struct platform_zone_result *ret)
{
    struct platform_interval interval = {
        .end_ns = sample->time_ns,
        .duration_ns = input->duration_ns,
        .is_power = has_rapl(input->zones),
    };
    const struct platform_estimate *estimate;
    struct sample_zone zone;

    assert(input->duration_ns > 0);
    if (!get_load(input, sample, &interval.load))
        return false;
    zone = platform_advance(platform, &interval, input->readings);
    if (!zone.valid || has_psys(input->zones))
        return false;
    estimate = &platform_used(platform)->estimate;
    *ret = (struct platform_zone_result){
        .static_power = get_static_power(input, estimate),
        .io_pj_per_byte = (uint64_t)(estimate->io_joules_per_byte / estimate->slope * 1e12),
    };
    sample->zones[PLATFORM_SLOT] = zone;
    if (!interval.is_power)
        sample->zones[PLATFORM_SLOT + 1].valid = false;
    return true;
}
