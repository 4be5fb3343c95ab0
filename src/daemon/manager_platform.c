/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager_internal.h"
#include "util/log.h"

static bool has_rapl(const struct manager *manager)
{
    return !manager->source->ops->estimate;
}

size_t manager_first_slot(const struct manager *manager)
{
    return manager->platform.model ? PLATFORM_SLOT + 1 : 0;
}

void manager_update_zones(struct manager *manager)
{
    const struct zone_set *zones = &manager->source->zones;
    size_t first = manager_first_slot(manager);

    if (manager->platform.model)
        manager->zones.zones[PLATFORM_SLOT] = platform_zone(has_rapl(manager));
    manager->zones.n = first;
    for (size_t i = 0; i < zones->n && manager->zones.n < ZONES_MAX; i++) {
        struct zone *zone = &manager->zones.zones[manager->zones.n++];

        *zone = zones->zones[i];
        zone->source = manager->source->ops->name;
    }
}

static void get_readings(const struct manager *manager, struct platform_reading *ret)
{
    for (size_t i = 0; i < manager->n_meters; i++) {
        const struct meter_reading *last = &manager->meters[i]->status.last;

        ret[i] = (struct platform_reading){
            .time_ns = last->time_ns,
            .power_uw = last->power_uw,
            .resolution_uw = last->resolution_uw,
        };
    }
}

static void log_trust(struct manager *manager, size_t meter)
{
    enum platform_trust trust = platform_get_meter(manager->platform.model, meter)->trust;
    const char *name = manager->meters[meter]->ops->name;

    if (manager->platform.trusts_logged[meter] & 1u << trust)
        return;
    manager->platform.trusts_logged[meter] |= 1u << trust;
    if (trust == PLATFORM_TRUSTED)
        log_info("a meter of the whole machine is understood, its power is divided",
                 F_STRING("meter", name));
    else if (trust != PLATFORM_UNKNOWN)
        log_warning("a meter of the whole machine is not believed now", F_STRING("meter", name),
                    F_STRING("reason", platform_trust_to_string(trust)));
}

void manager_advance_platform(struct manager *manager, const struct usage *usage)
{
    uint64_t start_ns = manager->platform.end_ns, end_ns = manager->sample.time_ns;
    struct platform_reading readings[PLATFORM_METERS_MAX];
    const struct platform_zone_input input = {
        .zones = &manager->zones,
        .usage = usage,
        .readings = readings,
        .static_powers = static_powers_by_slot(manager->static_powers),
        .duration_ns = end_ns - start_ns,
    };
    struct platform_zone_result result;
    bool known;

    if (!manager->platform.model)
        return;
    manager->platform.end_ns = end_ns;
    if (start_ns == 0 || input.duration_ns == 0)
        return;
    get_readings(manager, readings);
    known = platform_zone_advance(manager->platform.model, &input, &manager->sample, &result);
    for (size_t i = 0; i < manager->n_meters; i++)
        log_trust(manager, i);
    if (!known)
        return;
    static_powers_set(manager->static_powers, PLATFORM_SLOT, &result.static_power);
    if (has_rapl(manager))
        ledger_set_platform(manager->ledger, PLATFORM_SLOT, result.io_pj_per_byte);
}

void manager_show_platform(const struct manager *manager, struct snapshot *snapshot)
{
    const struct platform *platform = manager->platform.model;

    if (!platform)
        return;
    if (!has_rapl(manager) && snapshot->zones[PLATFORM_SLOT].readable) {
        snapshot->source = PLATFORM_SOURCE;
        snapshot->estimate = false;
    }
    snapshot->n_meters = manager->n_meters;
    for (size_t i = 0; i < manager->n_meters; i++) {
        const struct meter *meter = manager->meters[i];

        snapshot->meters[i] = (struct snapshot_meter){
            .source = meter->ops->name,
            .state = meter_state_to_string(meter->status.state),
            .known = *platform_get_meter(platform, i),
            .used = platform_used(platform) == platform_get_meter(platform, i),
        };
    }
}
