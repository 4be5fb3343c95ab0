/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/manager_internal.h"
#include "platform/platform_store.h"
#include "util/clock.h"
#include "util/log.h"

/*
 * The zone that no counter stands behind: meters and the interval's sample and
 * usage give its energy, which goes into the same sample. It has the first
 * slot, so that the source's zones can grow behind it.
 */
#define PLATFORM_SLOT 0
/* The source label of its energy. */
#define MODELLED "modelled"

static bool has_rapl(const struct manager *manager)
{
    return !manager->source->ops->estimate;
}

/* On a host without RAPL the machine's power stands for the processors', and takes the estimate's
   place as soon as it is learned; guests see the sum of both. */
static struct zone platform_zone(const struct manager *manager)
{
    struct zone zone = {
        .name = "platform",
        .kind = ZONE_PSYS,
        .socket = ZONE_ALL_SOCKETS,
        .max_energy_uj = UINT64_MAX,
        .source = MODELLED,
    };

    if (!has_rapl(manager)) {
        zone.kind = ZONE_PACKAGE;
        snprintf(zone.name, sizeof(zone.name), "package-0");
    }
    return zone;
}

size_t manager_first_slot(const struct manager *manager)
{
    return manager->platform ? PLATFORM_SLOT + 1 : 0;
}

void manager_update_zones(struct manager *manager)
{
    const struct zone_set *zones = &manager->source->zones;
    size_t first = manager_first_slot(manager);

    if (manager->platform)
        manager->zones.zones[PLATFORM_SLOT] = platform_zone(manager);
    manager->zones.n = first;
    for (size_t i = 0; i < zones->n && manager->zones.n < ZONES_MAX; i++) {
        struct zone *zone = &manager->zones.zones[manager->zones.n++];

        *zone = zones->zones[i];
        zone->source = manager->source->ops->name;
    }
}

/* What the platform contains; core and uncore are parts of packages, psys is the platform. */
static bool is_part(const struct zone *zone)
{
    return zone->kind == ZONE_PACKAGE || zone->kind == ZONE_DRAM;
}

/* @return false when it is not known */
static bool rapl_watts(const struct manager *manager, double *ret)
{
    *ret = 0;
    for (size_t slot = PLATFORM_SLOT + 1; slot < manager->zones.n; slot++) {
        const struct sample_zone *zone = &manager->sample.zones[slot];

        if (!is_part(&manager->zones.zones[slot]))
            continue;
        if (!zone->valid || zone->gap || zone->duration_ns == 0)
            return false;
        /* uJ/ns is 1000 W. */
        *ret += (double)zone->energy_uj / (double)zone->duration_ns * 1000;
    }
    return true;
}

static bool get_load(const struct manager *manager, const struct usage *usage, uint64_t duration_ns,
                     struct platform_load *ret)
{
    uint64_t io_bytes = 0;

    for (size_t i = 0; i < usage_n_entities(usage); i++)
        io_bytes += usage_entity(usage, i)->io_bytes;
    ret->io = (double)io_bytes * (double)NSEC_PER_SEC / (double)duration_ns;
    if (has_rapl(manager))
        return rapl_watts(manager, &ret->base);
    ret->base = zone_load(&manager->zones.zones[PLATFORM_SLOT], usage, duration_ns);
    return manager->sample.zones[PLATFORM_SLOT + 1].valid &&
           !manager->sample.zones[PLATFORM_SLOT + 1].gap;
}

/* The machine's power without load: its own, and its part in that of the zones it contains. */
static void set_baseline(struct manager *manager, const struct platform_meter *meter)
{
    const struct platform_estimate *estimate = &meter->estimate;
    double watts = estimate->static_watts, variance = pow(estimate->static_sigma, 2);

    for (size_t slot = PLATFORM_SLOT + 1; has_rapl(manager) && slot < manager->zones.n; slot++) {
        const struct static_power *part = static_powers_get(manager->static_powers, slot);

        if (!is_part(&manager->zones.zones[slot]))
            continue;
        watts += estimate->slope * (double)part->power_uw / 1e6;
        variance += pow(estimate->slope * (double)part->uncertainty_uw / 1e6, 2);
    }
    manager->platform_static_power = (struct static_power){
        .origin = STATIC_FROM_LOAD,
        .state = estimate->state,
        .power_uw = (uint64_t)(watts * 1e6),
        .uncertainty_uw = (uint64_t)(sqrt(variance) * 1e6),
    };
    ledger_set_static_power(manager->ledger, PLATFORM_SLOT, &manager->platform_static_power);
    if (has_rapl(manager))
        ledger_set_platform(manager->ledger, PLATFORM_SLOT,
                            (uint64_t)(estimate->io_joules_per_byte / estimate->slope * 1e12));
}

/* A host that has a counter of its whole power needs no other one. */
static bool has_psys(const struct manager *manager)
{
    for (size_t slot = PLATFORM_SLOT + 1; slot < manager->zones.n; slot++)
        if (manager->zones.zones[slot].kind == ZONE_PSYS)
            return true;
    return false;
}

static void log_trust(struct manager *manager, size_t meter)
{
    enum platform_trust trust = platform_get_meter(manager->platform, meter)->trust;
    const char *name = manager->meters[meter]->ops->name;

    if (manager->trusts_logged[meter] & 1u << trust)
        return;
    manager->trusts_logged[meter] |= 1u << trust;
    if (trust == PLATFORM_TRUSTED)
        log_info("a meter of the whole machine is understood, its power is divided",
                 F_STRING("meter", name));
    else if (trust != PLATFORM_UNKNOWN)
        log_warning("a meter of the whole machine is not believed now", F_STRING("meter", name),
                    F_STRING("reason", platform_trust_to_string(trust)));
}

void manager_restore_platform(struct manager *manager)
{
    struct platform_relation relations[PLATFORM_METERS_MAX];
    size_t n = platform_store_load(manager->config.runtime_dir, relations);

    for (size_t i = 0; i < n; i++)
        for (size_t meter = 0; meter < manager->n_meters; meter++)
            if (strcmp(relations[i].meter, manager->meters[meter]->ops->name) == 0 &&
                relations[i].is_power == has_rapl(manager))
                platform_restore(manager->platform, meter, &relations[i].estimate);
}

static bool is_same(const struct platform_estimate *one, const struct platform_estimate *other)
{
    return one->known == other->known && one->static_watts == other->static_watts &&
           one->slope == other->slope;
}

void manager_keep_platform(struct manager *manager)
{
    struct platform_relation relations[PLATFORM_METERS_MAX];
    bool changed = false;
    size_t n = 0;
    int r;

    for (size_t meter = 0; meter < manager->n_meters; meter++) {
        const struct platform_estimate *estimate =
            &platform_get_meter(manager->platform, meter)->estimate;

        changed |= !is_same(estimate, &manager->estimates_kept[meter]);
        manager->estimates_kept[meter] = *estimate;
        if (!estimate->known)
            continue;
        relations[n] =
            (struct platform_relation){.is_power = has_rapl(manager), .estimate = *estimate};
        snprintf(relations[n].meter, sizeof(relations[n].meter), "%s",
                 manager->meters[meter]->ops->name);
        n++;
    }
    r = changed ? platform_store_save(manager->config.runtime_dir, relations, n)
                : manager->estimates_error;
    if (r < 0 && r != manager->estimates_error)
        log_warning("what was learned of meters cannot be kept: after a restart it is learned anew",
                    F_ERROR(r));
    manager->estimates_error = r;
}

void manager_advance_platform(struct manager *manager, const struct usage *usage, uint64_t time_ns)
{
    struct platform_interval interval = {
        .end_ns = time_ns,
        .duration_ns = manager->platform_ns ? time_ns - manager->platform_ns : 0,
        .is_power = has_rapl(manager),
    };
    struct platform_reading readings[PLATFORM_METERS_MAX];
    struct sample_zone zone;

    if (!manager->platform)
        return;
    manager->platform_ns = time_ns;
    if (interval.duration_ns == 0 ||
        !get_load(manager, usage, interval.duration_ns, &interval.load))
        return;
    for (size_t i = 0; i < manager->n_meters; i++) {
        const struct meter_reading *last = &manager->meters[i]->status.last;

        readings[i] = (struct platform_reading){
            .time_ns = last->time_ns,
            .power_uw = last->power_uw,
            .resolution_uw = last->resolution_uw,
        };
    }
    zone = platform_advance(manager->platform, &interval, readings);
    for (size_t i = 0; i < manager->n_meters; i++)
        log_trust(manager, i);
    if (!zone.valid || has_psys(manager))
        return;
    set_baseline(manager, platform_used(manager->platform));
    manager->sample.zones[PLATFORM_SLOT] = zone;
    if (!has_rapl(manager))
        manager->sample.zones[PLATFORM_SLOT + 1].valid = false;
}

void manager_show_platform(const struct manager *manager, struct snapshot *snapshot)
{
    if (!manager->platform)
        return;
    snapshot->zones[PLATFORM_SLOT].static_power = manager->platform_static_power;
    if (!has_rapl(manager) && snapshot->zones[PLATFORM_SLOT].readable) {
        snapshot->source = MODELLED;
        snapshot->estimate = false;
    }
    snapshot->n_meters = manager->n_meters;
    for (size_t i = 0; i < manager->n_meters; i++) {
        const struct meter *meter = manager->meters[i];

        snapshot->meters[i] = (struct snapshot_meter){
            .source = meter->ops->name,
            .state = meter_state_to_string(meter->status.state),
            .known = *platform_get_meter(manager->platform, i),
        };
        snapshot->meters[i].used =
            platform_used(manager->platform) == platform_get_meter(manager->platform, i);
    }
}
