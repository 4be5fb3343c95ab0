/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/baselines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attribution/baseline_learner.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

struct baselines {
    struct baseline_setting *settings;
    size_t n_settings;
    struct zone_baseline others;
    size_t n; /* slots */
    struct zone_baseline zones[ZONES_MAX];
    struct baseline_learner *learners[ZONES_MAX]; /* NULL for what is fixed */
    unsigned logged[ZONES_MAX]; /* bit per enum baseline_state: each is logged once */
};

DEFINE_CLEANUP(struct baselines *, baselines_free);

int baselines_new(struct baselines **ret, const struct baseline_setting *settings, size_t n,
                  struct zone_baseline others)
{
    _cleanup_(cleanup_baselines_free) struct baselines *baselines = calloc(1, sizeof(*baselines));

    if (!baselines)
        return -ENOMEM;
    baselines->others = others;
    baselines->settings = calloc(n + 1, sizeof(*settings));
    if (!baselines->settings)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        baselines->settings[i] = settings[i];
    baselines->n_settings = n;
    *ret = TAKE_PTR(baselines);
    return 0;
}

struct baselines *baselines_free(struct baselines *baselines)
{
    if (!baselines)
        return NULL;
    for (size_t slot = 0; slot < baselines->n; slot++)
        baseline_learner_free(baselines->learners[slot]);
    free(baselines->settings);
    free(baselines);
    return NULL;
}

static int add_zone(struct baselines *baselines, const struct zone *zone)
{
    struct zone_baseline *baseline = &baselines->zones[baselines->n];

    *baseline = baselines->others;
    for (size_t i = 0; i < baselines->n_settings; i++)
        if (strcmp(baselines->settings[i].zone, zone->name) == 0)
            *baseline = baselines->settings[i].baseline;
    if (baseline->state == BASELINE_LEARNING) {
        int r = baseline_learner_new(&baselines->learners[baselines->n]);

        if (r < 0)
            return r;
    }
    baselines->n++;
    return 0;
}

/*
 * Busy cores, where cycles are counted by the power that they take: a core at f takes V^2 f, and
 * the voltage rises with f about as its square root where servers run under load, between the
 * base and the turbo frequencies. Without that a host that lowers its frequency as it fills up
 * shows a curve whose beginning cannot be told from its end.
 */
static double core_load(const struct usage_socket *used, bool cycles)
{
    double own_s = ((double)used->cpu_ns - (double)used->corun_ns / 2) / (double)NSEC_PER_SEC;
    double ghz = used->cpu_ns ? (double)used->cycles / (double)used->cpu_ns : 0;

    return cycles ? own_s * ghz * ghz : own_s;
}

double baseline_load(const struct zone *zone, const struct usage *usage, uint64_t duration_ns)
{
    double load = 0;

    for (size_t i = 0; i < usage_n_entities(usage); i++) {
        struct usage_socket used = usage_on_socket(usage_entity(usage, i), zone->socket);

        if (zone->kind == ZONE_DRAM && usage->features & USAGE_LLC_MISSES)
            load += (double)used.llc_misses;
        else
            load += core_load(&used, usage->features & USAGE_CYCLES);
    }
    return load * (double)NSEC_PER_SEC / (double)duration_ns;
}

static void log_state(const struct zone *zone, const struct zone_baseline *baseline)
{
    if (baseline->state == BASELINE_NOT_IDENTIFIABLE)
        log_warning("the static power of a zone cannot be learned now: its load varies too little, "
                    "or does not tell its power; what was known of it stays",
                    F_STRING("zone", zone->name), F_UINT("mw", baseline->power_uw / 1000));
    else if (baseline->state == BASELINE_LEARNED)
        log_info("the static power of a zone is learned from its load",
                 F_STRING("zone", zone->name));
}

static void learn(struct baselines *baselines, size_t slot, const struct zone *zone,
                  const struct sample_zone *sample, const struct usage *usage)
{
    struct baseline_learner *learner = baselines->learners[slot];
    struct baseline_estimate estimate;

    baseline_learner_add(learner, sample->energy_uj, sample->duration_ns,
                         baseline_load(zone, usage, sample->duration_ns));
    estimate = baseline_learner_estimate(learner);
    baselines->zones[slot] = (struct zone_baseline){
        .origin = estimate.known ? BASELINE_FROM_LOAD : BASELINE_NONE,
        .state = estimate.state,
        .power_uw = estimate.power_uw,
        .uncertainty_uw = estimate.uncertainty_uw,
    };
    if (!(baselines->logged[slot] & 1u << estimate.state))
        log_state(zone, &baselines->zones[slot]);
    baselines->logged[slot] |= 1u << estimate.state;
}

int baselines_add_zones(struct baselines *baselines, const struct zone_set *zones)
{
    int r = 0;

    while (baselines->n < zones->n && r == 0)
        r = add_zone(baselines, &zones->zones[baselines->n]);
    return r;
}

void baselines_resume(struct baselines *baselines, size_t slot, const struct zone_baseline *learned)
{
    if (!baselines->learners[slot] || learned->origin != BASELINE_FROM_LOAD)
        return;
    baseline_learner_resume(baselines->learners[slot], learned->power_uw, learned->uncertainty_uw);
    baselines->zones[slot] = *learned;
}

int baselines_update(struct baselines *baselines, const struct zone_set *zones,
                     const struct sample *sample, const struct usage *usage)
{
    int r = baselines_add_zones(baselines, zones);

    if (r < 0)
        return r;
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct sample_zone *zone = &sample->zones[slot];

        /* The usage at hand says nothing about a gap. */
        if (baselines->learners[slot] && zone->valid && !zone->gap && zone->duration_ns > 0)
            learn(baselines, slot, &zones->zones[slot], zone, usage);
    }
    return 0;
}

const struct zone_baseline *baselines_get(const struct baselines *baselines, size_t slot)
{
    return &baselines->zones[slot];
}
