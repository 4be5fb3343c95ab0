/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_powers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "baseline/static_learner.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

struct static_powers {
    struct static_power_setting *settings;
    size_t n_settings;
    struct static_power others;
    bool by_cycles;
    size_t n; /* slots */
    struct static_power zones[ZONES_MAX];
    struct static_learner *learners[ZONES_MAX]; /* NULL: nothing is learned of the zone */
    unsigned logged[ZONES_MAX];                 /* bit per enum static_state: each is logged once */
};

DEFINE_CLEANUP(struct static_powers *, static_powers_free);

int static_powers_new(struct static_powers **ret, const struct static_power_setting *settings,
                      size_t n, struct static_power others, bool by_cycles)
{
    _cleanup_(cleanup_static_powers_free) struct static_powers *static_powers =
        calloc(1, sizeof(*static_powers));

    if (!static_powers)
        return -ENOMEM;
    static_powers->others = others;
    static_powers->by_cycles = by_cycles;
    static_powers->settings = calloc(n + 1, sizeof(*settings));
    if (!static_powers->settings)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        static_powers->settings[i] = settings[i];
    static_powers->n_settings = n;
    *ret = TAKE_PTR(static_powers);
    return 0;
}

struct static_powers *static_powers_free(struct static_powers *static_powers)
{
    if (!static_powers)
        return NULL;
    for (size_t slot = 0; slot < static_powers->n; slot++)
        static_learner_free(static_powers->learners[slot]);
    free(static_powers->settings);
    free(static_powers);
    return NULL;
}

static int add_zone(struct static_powers *static_powers, const struct zone *zone)
{
    struct static_power *static_power = &static_powers->zones[static_powers->n];

    *static_power = static_powers->others;
    for (size_t i = 0; i < static_powers->n_settings; i++)
        if (strcmp(static_powers->settings[i].zone, zone->name) == 0)
            *static_power = static_powers->settings[i].static_power;
    if (static_power->state == STATIC_LEARNING) {
        int r = static_learner_new(&static_powers->learners[static_powers->n]);

        if (r < 0)
            return r;
    }
    static_powers->n++;
    return 0;
}

/*
 * Busy cores; where cycles are counted, weighed by the power that they take: a core at f takes
 * V^2 f, and the voltage rises with f about as its square root where servers run under load,
 * between the base and the turbo frequencies. Without the weight, the curve of a host that lowers
 * its frequency as it fills up does not show its beginning.
 */
static double core_load(const struct usage_socket *used, bool cycles)
{
    double own_s = ((double)used->cpu_ns - (double)used->corun_ns / 2) / (double)NSEC_PER_SEC;
    double ghz = used->cpu_ns ? (double)used->cycles / (double)used->cpu_ns : 0;

    return cycles ? own_s * ghz * ghz : own_s;
}

/* @param features  bits of enum usage_feature that may count */
static double sum_load(const struct zone *zone, const struct usage *usage, unsigned features,
                       uint64_t duration_ns)
{
    double load = 0;

    assert(duration_ns > 0);
    for (size_t i = 0; i < usage_n_entities(usage); i++) {
        struct usage_socket used = usage_on_socket(usage_entity(usage, i), zone->socket);

        if (zone->kind == ZONE_DRAM && features & USAGE_LLC_MISSES)
            load += (double)used.llc_misses;
        else
            load += core_load(&used, features & USAGE_CYCLES);
    }
    return load * (double)NSEC_PER_SEC / (double)duration_ns;
}

double zone_load(const struct zone *zone, const struct usage *usage, uint64_t duration_ns)
{
    return sum_load(zone, usage, usage->features, duration_ns);
}

/* The same as VMs are charged by it: by CPU time, whatever the clock, with most models. */
static double charged_load(const struct static_powers *static_powers, const struct zone *zone,
                           const struct usage *usage, uint64_t duration_ns)
{
    unsigned without = static_powers->by_cycles ? 0 : USAGE_CYCLES;

    return sum_load(zone, usage, usage->features & ~without, duration_ns);
}

static void log_state(const struct zone *zone, const struct static_power *static_power)
{
    if (static_power->state == STATIC_NOT_IDENTIFIABLE)
        log_warning("the static power of a zone cannot be learned now: its load varies too little, "
                    "or does not determine its power; the known value stays",
                    F_STRING("zone", zone->name), F_UINT("mw", static_power->power_uw / 1000));
    else if (static_power->state == STATIC_LEARNED)
        log_info("the static power of a zone is learned from its load",
                 F_STRING("zone", zone->name));
}

static enum static_origin origin_of(const struct static_estimate *estimate)
{
    if (estimate->known)
        return STATIC_FROM_LOAD;
    return estimate->power_uw > 0 ? STATIC_FLOOR : STATIC_NONE;
}

static void learn(struct static_powers *static_powers, size_t slot, const struct zone *zone,
                  const struct sample_zone *sample, const struct usage *usage)
{
    struct static_learner *learner = static_powers->learners[slot];
    struct static_estimate estimate;

    static_learner_add(learner, sample->energy_uj, sample->duration_ns,
                       zone_load(zone, usage, sample->duration_ns),
                       charged_load(static_powers, zone, usage, sample->duration_ns));
    estimate = static_learner_estimate(learner);
    static_powers->zones[slot] = (struct static_power){
        .origin = origin_of(&estimate),
        .state = estimate.state,
        .power_uw = estimate.power_uw,
        .uncertainty_uw = estimate.uncertainty_uw,
        .drift_uw = estimate.drift_uw,
    };
    if (!(static_powers->logged[slot] & 1u << estimate.state))
        log_state(zone, &static_powers->zones[slot]);
    static_powers->logged[slot] |= 1u << estimate.state;
}

int static_powers_add_zones(struct static_powers *static_powers, const struct zone_set *zones)
{
    int r = 0;

    while (static_powers->n < zones->n && r == 0)
        r = add_zone(static_powers, &zones->zones[static_powers->n]);
    return r;
}

void static_powers_resume(struct static_powers *static_powers, size_t slot,
                          const struct static_power *learned)
{
    const struct static_estimate former = {
        .known = learned->origin == STATIC_FROM_LOAD,
        .power_uw = learned->power_uw,
        .uncertainty_uw = learned->uncertainty_uw,
    };

    assert(slot < static_powers->n);
    if (!static_powers->learners[slot] || !static_power_is_learned(learned))
        return;
    static_learner_resume(static_powers->learners[slot], &former);
    static_powers->zones[slot] = *learned;
}

void static_powers_set(struct static_powers *static_powers, size_t slot,
                       const struct static_power *static_power)
{
    assert(slot < static_powers->n);
    static_powers->learners[slot] = static_learner_free(static_powers->learners[slot]);
    static_powers->zones[slot] = *static_power;
}

int static_powers_update(struct static_powers *static_powers, const struct zone_set *zones,
                         const struct sample *sample, const struct usage *usage)
{
    int r = static_powers_add_zones(static_powers, zones);

    if (r < 0)
        return r;
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct sample_zone *zone = &sample->zones[slot];

        /* The usage is that of the last interval only, and says nothing about a gap. */
        if (static_powers->learners[slot] && zone->valid && !zone->gap && zone->duration_ns > 0)
            learn(static_powers, slot, &zones->zones[slot], zone, usage);
    }
    return 0;
}

const struct static_power *static_powers_by_slot(const struct static_powers *static_powers)
{
    return static_powers->zones;
}

const struct static_power *static_powers_get(const struct static_powers *static_powers, size_t slot)
{
    assert(slot < ZONES_MAX);
    return &static_powers->zones[slot];
}
