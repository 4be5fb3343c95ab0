/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform/platform.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "util/cleanup.h"
#include "util/clock.h"

/* A meter updates at least this often; two readings further apart leave a gap. */
#define SILENT_S 60.0
/* A meter that disagrees, and has shown the same for this time, is frozen. */
#define FROZEN_S 60.0

/* A meter disagrees when its readings are wrong by this part, on average over this time. */
#define DEVIATION_MAX 0.1
#define DEVIATION_S 60.0

/* Owed energy is paid with this time constant, and up to this part of an interval's energy. */
#define PAY_S 600.0
#define PAY_MAX 0.1

/* A plausible meter shows at least this part of the RAPL power: both are a little inexact. */
#define RAPL_SHARE_MIN 0.9

struct meter_slot {
    struct platform_meter meter;
    struct platform_learner *learner;
    double error_watts; /* of its readings, smoothed */
    double owed_joules; /* shown by the meter, and not yet by the platform */
    uint64_t judged_ns; /* up to which reading; 0: none */
    uint64_t changed_ns;
    uint64_t changed_uw;
    uint64_t trusted_ns;  /* the last reading that agreed; 0: none */
    uint64_t disagree_ns; /* the first of those that disagree since then; 0: none does */
};

struct platform {
    size_t n;
    struct meter_slot *slots;
    const struct meter_slot *used; /* in the last interval */
    double floor_watts;            /* of load.base: not below it for a minute, about */
    double fraction_uj;            /* of the energy: the part that makes no microjoule yet */
};

DEFINE_CLEANUP(struct platform *, platform_free);

int platform_new(struct platform **ret, size_t n)
{
    _cleanup_(cleanup_platform_free) struct platform *platform = calloc(1, sizeof(*platform));

    assert(n >= 1 && n <= PLATFORM_METERS_MAX);
    if (!platform)
        return -ENOMEM;
    platform->slots = calloc(n, sizeof(*platform->slots));
    if (!platform->slots)
        return -ENOMEM;
    for (; platform->n < n; platform->n++) {
        int r = platform_learner_new(&platform->slots[platform->n].learner);

        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(platform);
    return 0;
}

struct platform *platform_free(struct platform *platform)
{
    if (!platform)
        return NULL;
    for (size_t i = 0; i < platform->n; i++)
        platform_learner_free(platform->slots[i].learner);
    free(platform->slots);
    free(platform);
    return NULL;
}

void platform_restore(struct platform *platform, size_t meter,
                      const struct platform_estimate *estimate)
{
    assert(meter < platform->n);
    platform_learner_restore(platform->slots[meter].learner, estimate);
}

static double seconds_between(uint64_t from_ns, uint64_t to_ns)
{
    return ((double)to_ns - (double)from_ns) / (double)NSEC_PER_SEC;
}

/* Does the reading agree with the relation? Smooths the error, and notes it as owed. */
static enum platform_trust compare(struct meter_slot *slot, double expected_watts)
{
    const struct platform_reading *last = &slot->meter.last;
    double error_watts = (double)last->power_uw / 1e6 - expected_watts;
    double passed_s = slot->judged_ns ? seconds_between(slot->judged_ns, last->time_ns) : 0;

    /* A relation that another process learned is judged by the first reading. */
    if (!slot->trusted_ns && !slot->disagree_ns)
        slot->error_watts = error_watts;
    slot->error_watts +=
        (error_watts - slot->error_watts) * -expm1(-fmin(passed_s, SILENT_S) / DEVIATION_S);
    if (fabs(slot->error_watts) > DEVIATION_MAX * expected_watts)
        return seconds_between(slot->changed_ns, last->time_ns) >= FROZEN_S ? PLATFORM_FROZEN
                                                                            : PLATFORM_DEVIATING;
    /* The meter's power during a gap is not known. */
    if (slot->trusted_ns && passed_s <= SILENT_S)
        slot->owed_joules += error_watts * passed_s;
    return PLATFORM_TRUSTED;
}

/* A meter that disagrees for PLATFORM_EXTRAPOLATE_S is right or was replaced: relearn it. */
static void forget(struct meter_slot *slot)
{
    platform_learner_forget(slot->learner);
    slot->error_watts = slot->owed_joules = 0;
    slot->trusted_ns = slot->disagree_ns = 0;
}

/* @param floor_watts  lowest recent RAPL power; a plausible meter shows at least this */
static void judge(struct meter_slot *slot, double floor_watts)
{
    const struct platform_reading *last = &slot->meter.last;
    enum platform_trust trust = PLATFORM_UNKNOWN;
    double expected_watts;

    if (last->power_uw == 0 || (double)last->power_uw / 1e6 < RAPL_SHARE_MIN * floor_watts)
        trust = PLATFORM_IMPLAUSIBLE;
    else if (platform_learner_expect(slot->learner, last->time_ns, &expected_watts))
        trust = compare(slot, expected_watts);
    slot->meter.trust = trust;
    slot->judged_ns = last->time_ns;
    if (trust == PLATFORM_TRUSTED) {
        slot->trusted_ns = last->time_ns;
        slot->disagree_ns = 0;
    } else if (trust != PLATFORM_UNKNOWN) {
        slot->owed_joules = 0;
        if (!slot->disagree_ns)
            slot->disagree_ns = last->time_ns;
    }
    if (slot->disagree_ns &&
        seconds_between(slot->disagree_ns, last->time_ns) >= PLATFORM_EXTRAPOLATE_S)
        forget(slot);
    if (trust == PLATFORM_TRUSTED || trust == PLATFORM_UNKNOWN)
        platform_learner_add_reading(slot->learner, last->time_ns, last->power_uw,
                                     last->resolution_uw);
}

static void take_reading(struct meter_slot *slot, uint64_t now, double floor_watts,
                         const struct platform_reading *reading)
{
    if (reading->time_ns > slot->meter.last.time_ns) {
        slot->meter.last = *reading;
        if (reading->power_uw != slot->changed_uw)
            slot->changed_ns = reading->time_ns;
        slot->changed_uw = reading->power_uw;
        judge(slot, floor_watts);
    }
    if (slot->meter.last.time_ns && seconds_between(slot->meter.last.time_ns, now) > SILENT_S)
        slot->meter.trust = PLATFORM_SILENT;
    slot->meter.estimate = platform_learner_estimate(slot->learner);
}

static double power_watts(const struct platform_estimate *estimate,
                          const struct platform_load *load)
{
    return estimate->static_watts + estimate->slope * load->base +
           estimate->io_joules_per_byte * load->io;
}

static bool is_usable(const struct meter_slot *slot, uint64_t now)
{
    return slot->meter.estimate.known && slot->trusted_ns &&
           seconds_between(slot->trusted_ns, now) <= PLATFORM_EXTRAPOLATE_S;
}

static struct meter_slot *choose(struct platform *platform,
                                 const struct platform_interval *interval)
{
    struct meter_slot *chosen = NULL;

    for (size_t i = 0; i < platform->n; i++) {
        struct meter_slot *slot = &platform->slots[i];
        double watts, chosen_watts;

        if (!is_usable(slot, interval->end_ns))
            continue;
        if (!chosen) {
            chosen = slot;
            continue;
        }
        watts = power_watts(&slot->meter.estimate, &interval->load);
        chosen_watts = power_watts(&chosen->meter.estimate, &interval->load);
        if (slot->meter.trust == PLATFORM_TRUSTED &&
            fabs(watts - chosen_watts) > DEVIATION_MAX * chosen_watts)
            slot->meter.trust = PLATFORM_CONTRADICTING;
    }
    return chosen;
}

/* The owed energy that is paid in an interval. @param joules  the interval's energy */
static double pay(struct meter_slot *slot, double joules, double duration_s)
{
    double due = slot->owed_joules * -expm1(-duration_s / PAY_S);

    due = fmin(fmax(due, -PAY_MAX * joules), PAY_MAX * joules);
    slot->owed_joules -= due;
    return due;
}

/* A late meter shows at least the power that was drawn all the time. */
static void follow_floor(struct platform *platform, const struct platform_interval *interval)
{
    double duration_s = (double)interval->duration_ns / (double)NSEC_PER_SEC;
    double rise = (interval->load.base - platform->floor_watts) * -expm1(-duration_s / SILENT_S);

    if (interval->is_power)
        platform->floor_watts = fmin(interval->load.base, platform->floor_watts + rise);
}

struct sample_zone platform_advance(struct platform *platform,
                                    const struct platform_interval *interval,
                                    const struct platform_reading *readings)
{
    double duration_s = (double)interval->duration_ns / (double)NSEC_PER_SEC, joules, whole;
    struct meter_slot *chosen;

    assert(interval->duration_ns > 0);
    follow_floor(platform, interval);
    for (size_t i = 0; i < platform->n; i++) {
        platform_learner_add_load(platform->slots[i].learner, interval->end_ns,
                                  interval->duration_ns, &interval->load);
        take_reading(&platform->slots[i], interval->end_ns, platform->floor_watts, &readings[i]);
    }
    chosen = choose(platform, interval);
    for (size_t i = 0; i < platform->n; i++)
        if (&platform->slots[i] != chosen)
            platform->slots[i].owed_joules = 0; /* the chosen meter's readings were followed */
    platform->used = chosen;
    if (!chosen)
        return (struct sample_zone){0};
    joules = power_watts(&chosen->meter.estimate, &interval->load) * duration_s;
    joules += pay(chosen, joules, duration_s);
    platform->fraction_uj = modf(joules * 1e6 + platform->fraction_uj, &whole);
    return (struct sample_zone){
        .valid = true,
        .energy_uj = (uint64_t)whole,
        .duration_ns = interval->duration_ns,
    };
}

const struct platform_meter *platform_get_meter(const struct platform *platform, size_t meter)
{
    assert(meter < platform->n);
    return &platform->slots[meter].meter;
}

const struct platform_meter *platform_used(const struct platform *platform)
{
    return platform->used ? &platform->used->meter : NULL;
}
