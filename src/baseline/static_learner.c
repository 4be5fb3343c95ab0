/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_learner.h"

#include <assert.h>
#include <errno.h>
#include <gsl/gsl_fit.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "util/clock.h"

/* Samples kept, and how many make a first estimate. */
#define SAMPLES_MAX 900
#define SAMPLES_MIN 60
/* Shorter intervals are added up: the counters' update time and quantum blur them. */
#define SAMPLE_S 0.9
/* A fit takes half a millisecond, and a few samples more hardly change it. */
#define SAMPLES_PER_FIT 10

/* A sample's weight falls to 1/e in this time, or in this many samples if that is longer. */
#define MEMORY_S 300.0
#define MEMORY_SAMPLES 60.0
/* The published value follows the fitted one with this time constant. */
#define SLEW_S 60.0

/* One sample in this many may be much too low, because of a reading that came late. */
#define GLITCHES 100

/* Groups of samples with similar load: the largest number of groups, and their least size. */
#define GROUPS_MAX 30
#define GROUP_SIZE 10
#define GROUP_SIZE_MAX (SAMPLES_MAX / GROUPS_MAX + 1)
/* Robust mean: of the samples within this many standard deviations, estimated by the MAD. */
#define KEEP_SIGMAS 3.0

/* How fast the power of a load may drift, relative, per second: 10 % in half an hour is usual. */
#define DRIFT_SIGMA (0.1 / 1800)

/* No power curve is exact: the error of its form, relative to the power, at the lowest load and
   its growth towards the highest. */
#define FORM_ERROR 0.001
#define FORM_ERROR_GROWTH 0.02

/* The shapes on trial, each kind half as likely as all. Power laws: exponents around 1, a line. */
#define EXPONENTS 46
#define EXPONENT_MIN 0.60
#define EXPONENT_STEP 0.02
#define EXPONENT_SIGMA 0.15
/* Lines with a knee anywhere, also below the loads seen: SMT siblings and the turbo's end bend
   them down, a rising frequency up. Logarithms of the slopes' ratio, from -MAX to MAX. */
#define KNEES 19
#define BENDS 24
#define BEND_MAX 1.4
#define BEND_SIGMA 0.4
#define SHAPES (EXPONENTS + KNEES * BENDS)
/* No list holds every shape (a clock that rises in steps, a turbo that ends slowly): the part of
   what was extrapolated that this leaves uncertain. */
#define SHAPE_ERROR 0.1

/* How far the static power of an interval may be from the estimate, relative to it: temperature
   and fans make as much. */
#define DRIFT_MAX 0.05
/* What load costs is averaged over the work of this time at the highest load. */
#define PRICE_S 60.0

/* Learned means: loads this far apart, relative to the highest, and an uncertainty up to this
   part of the lowest power. */
#define LOAD_SPREAD_MIN 0.1
#define UNCERTAINTY_MAX 0.15

struct load_sample {
    double time_s; /* the learner's own clock: the sum of all durations */
    double load;
    double power_uw;
};

struct static_learner {
    struct load_sample ring[SAMPLES_MAX];
    size_t n;
    size_t next;
    size_t added; /* number of samples since the start */
    double time_s;

    /* The sample that is being added up. */
    double energy_uj;
    double duration_s;
    double work;    /* load * time */
    double charged; /* charged * time */

    enum static_state state;
    bool known;
    double fitted_uw;
    double uncertainty_uw;
    double lowest_uw; /* of the samples that the last fit kept */
    double power_uw;  /* published: slewed and bounded */

    double floor_uw;
    double last_uw; /* the power of the last sample */

    double price_uw; /* what a charged unit has drawn; 0: not known */
    double worked;   /* units * time that the price is the mean of */
    double busiest;  /* the most units in a sample */
    double drift_uw;
};

/* The robust mean of samples with similar load. */
struct group {
    double load;
    double time_s;
    double power_uw;
    double lowest_uw;
    double variance; /* of one sample, then (share_variance) of power_uw */
    double weight;   /* effective number of samples */
};

/* The samples that are left in groups, in terms of their groups' means. */
struct deviations {
    size_t n;
    double time_s[SAMPLES_MAX];
    double power_uw[SAMPLES_MAX];
    double weight[SAMPLES_MAX];
};

/* One f of P = S + D * f(u): a power law, or a line that bends at a knee. */
struct shape {
    double exponent;
    double knee;  /* as a part of the highest load */
    double bend;  /* the slope above the knee in terms of the one below */
    double prior; /* -2 ln of its probability before there are data */
};

/* The least-squares solution of one shape. */
struct fit {
    double power_uw;
    double variance;
    double chi_square;
    double prior;
};

int static_learner_new(struct static_learner **ret)
{
    struct static_learner *learner = calloc(1, sizeof(*learner));

    if (!learner)
        return -ENOMEM;
    learner->state = STATIC_LEARNING;
    learner->lowest_uw = learner->floor_uw = INFINITY;
    *ret = learner;
    return 0;
}

struct static_learner *static_learner_free(struct static_learner *learner)
{
    free(learner);
    return NULL;
}

void static_learner_resume(struct static_learner *learner, const struct static_estimate *former)
{
    learner->known = former->known;
    learner->power_uw = learner->fitted_uw = (double)former->power_uw;
    learner->uncertainty_uw = (double)former->uncertainty_uw;
    if (!former->known)
        learner->floor_uw = (double)former->power_uw;
}

/* The group's samples are appended to the deviations. */
static struct group make_group(const struct static_learner *learner, const size_t *order, size_t n,
                               double memory_s, struct deviations *deviations)
{
    double *weight = deviations->weight + deviations->n;
    double *power = deviations->power_uw + deviations->n;
    double *time = deviations->time_s + deviations->n;
    double load[GROUP_SIZE_MAX], work[GROUP_SIZE_MAX];
    double median, sigma, sum = 0, squares = 0;
    struct group group = {0};
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        power[i] = learner->ring[order[i]].power_uw;
    sigma = gsl_stats_mad(power, 1, n, work);
    median = gsl_stats_median(power, 1, n);
    for (size_t i = 0; i < n; i++) {
        const struct load_sample *sample = &learner->ring[order[i]];

        if (fabs(sample->power_uw - median) > KEEP_SIGMAS * sigma)
            continue;
        power[kept] = sample->power_uw;
        load[kept] = sample->load;
        time[kept] = sample->time_s;
        weight[kept] = exp((sample->time_s - learner->time_s) / memory_s);
        sum += weight[kept];
        squares += weight[kept] * weight[kept];
        kept++;
    }
    group.load = gsl_stats_wmean(weight, 1, load, 1, kept);
    group.time_s = gsl_stats_wmean(weight, 1, time, 1, kept);
    group.power_uw = gsl_stats_wmean(weight, 1, power, 1, kept);
    group.lowest_uw = gsl_stats_min(power, 1, kept);
    group.variance = sigma * sigma;
    group.weight = sum * sum / squares;
    for (size_t i = 0; i < kept; i++) {
        time[i] -= group.time_s;
        power[i] -= group.power_uw;
    }
    deviations->n += kept;
    return group;
}

/*
 * Brings all groups to the power they would have now. Were this left out, a
 * group's age, which differs by chance, would pass for an effect of its load on
 * a host that warms up, and the estimate would lag behind.
 */
static void remove_drift(const struct static_learner *learner, struct group *groups, size_t n,
                         const struct deviations *deviations)
{
    double prior = DRIFT_SIGMA * groups[0].power_uw;
    double drift, variance, chi_square;

    gsl_fit_wmul(deviations->time_s, 1, deviations->weight, 1, deviations->power_uw, 1,
                 deviations->n, &drift, &variance, &chi_square);
    /* The weights are those of age: the variance of a sample comes from the scatter. */
    variance *= chi_square / (double)deviations->n;
    drift *= prior * prior / (prior * prior + variance);
    for (size_t g = 0; g < n; g++)
        groups[g].power_uw += drift * (learner->time_s - groups[g].time_s);
}

/* The variance of few samples is inexact: all groups share the typical variance of a sample. */
static void share_variance(struct group *groups, size_t n, double variance)
{
    for (size_t g = 0; g < n; g++) {
        double height = (groups[g].load - groups[0].load) / groups[n - 1].load;
        double form = (FORM_ERROR + FORM_ERROR_GROWTH * height) * groups[g].power_uw;

        groups[g].variance = variance / groups[g].weight + form * form;
    }
}

/* Groups of equal size by increasing load. @return how many */
static size_t make_groups(const struct static_learner *learner, struct group *ret)
{
    struct deviations deviations = {.n = 0};
    double memory_s = fmax(MEMORY_S, MEMORY_SAMPLES * learner->time_s / (double)learner->added);
    size_t n = learner->n / GROUP_SIZE < GROUPS_MAX ? learner->n / GROUP_SIZE : GROUPS_MAX;
    double variances[GROUPS_MAX];
    size_t order[SAMPLES_MAX];

    gsl_sort_index(order, &learner->ring[0].load, sizeof(learner->ring[0]) / sizeof(double),
                   learner->n);
    for (size_t g = 0; g < n; g++) {
        size_t first = learner->n * g / n, end = learner->n * (g + 1) / n;

        ret[g] = make_group(learner, order + first, end - first, memory_s, &deviations);
        variances[g] = ret[g].variance;
    }
    remove_drift(learner, ret, n, &deviations);
    share_variance(ret, n, gsl_stats_median(variances, 1, n));
    return n;
}

static struct shape shape_at(size_t i)
{
    struct shape shape = {.exponent = 1, .bend = 1};
    double deviation, density;

    if (i < EXPONENTS) {
        shape.exponent = EXPONENT_MIN + EXPONENT_STEP * (double)i;
        deviation = (shape.exponent - 1) / EXPONENT_SIGMA;
        density = EXPONENT_STEP / EXPONENT_SIGMA;
    } else {
        size_t knee = (i - EXPONENTS) / BENDS, bend = (i - EXPONENTS) % BENDS;
        double step = 2 * BEND_MAX / (BENDS - 1);

        shape.knee = (double)(knee + 1) / (KNEES + 1);
        shape.bend = exp(step * (double)bend - BEND_MAX);
        deviation = (step * (double)bend - BEND_MAX) / BEND_SIGMA;
        density = step / BEND_SIGMA / KNEES;
    }
    shape.prior = deviation * deviation - 2 * log(density);
    return shape;
}

/* f(u), u = 0 to 1. */
static double shape_value(const struct shape *shape, double load)
{
    return pow(load, shape->exponent) + (shape->bend - 1) * fmax(0, load - shape->knee);
}

/* Fits P = S + D * f(u) for one shape. @return false when power does not grow with load */
static bool fit_shape(const struct group *groups, size_t n, const struct shape *shape,
                      struct fit *ret)
{
    double x[GROUPS_MAX], y[GROUPS_MAX], weights[GROUPS_MAX];
    double slope, cov01, cov11;

    for (size_t g = 0; g < n; g++) {
        x[g] = shape_value(shape, groups[g].load / groups[n - 1].load);
        y[g] = groups[g].power_uw;
        weights[g] = 1 / groups[g].variance;
    }
    gsl_fit_wlinear(x, 1, weights, 1, y, 1, n, &ret->power_uw, &slope, &ret->variance, &cov01,
                    &cov11, &ret->chi_square);
    ret->prior = shape->prior;
    return slope > 0;
}

/* The mean over all shapes. @return false when power does not grow with load */
static bool fit_all(const struct group *groups, size_t n, double *ret_power, double *ret_sigma)
{
    struct fit fits[SHAPES];
    double best = INFINITY, inflation, lowest = INFINITY, sum = 0, mean = 0, variance = 0;

    for (size_t i = 0; i < SHAPES; i++) {
        struct shape shape = shape_at(i);

        if (!fit_shape(groups, n, &shape, &fits[i]))
            return false;
        best = fmin(best, fits[i].chi_square);
    }
    /* If groups scatter by more than their own variance, the power depends on more than the
       load: every uncertainty grows by the same factor. */
    inflation = fmax(1, best / (double)(n - 3));
    for (size_t i = 0; i < SHAPES; i++)
        lowest = fmin(lowest, fits[i].chi_square / inflation + fits[i].prior);
    for (size_t i = 0; i < SHAPES; i++) {
        double weight = exp((lowest - fits[i].chi_square / inflation - fits[i].prior) / 2);
        double second = fits[i].variance * inflation + fits[i].power_uw * fits[i].power_uw;

        sum += weight;
        mean += weight * fits[i].power_uw;
        variance += weight * second;
    }
    *ret_power = mean / sum;
    *ret_sigma = sqrt(fmax(0, variance / sum - *ret_power * *ret_power));
    return true;
}

/*
 * The lowest power seen: of the samples the last fit kept, which had no glitches among them, and
 * of all but a few since, because a host whose power falls looks at first like one with glitches.
 */
static double lowest_power(const struct static_learner *learner)
{
    double lowest[SAMPLES_MAX / GLITCHES + 1];
    size_t n = learner->n / GLITCHES + 1;

    gsl_sort_smallest(lowest, n, &learner->ring[0].power_uw,
                      sizeof(learner->ring[0]) / sizeof(double), learner->n);
    return fmin(lowest[n - 1], learner->lowest_uw);
}

static void fit(struct static_learner *learner)
{
    struct group groups[GROUPS_MAX] = {0};
    size_t n = make_groups(learner, groups);
    double highest = groups[n - 1].load, power_uw, sigma_uw;

    learner->lowest_uw = groups[0].lowest_uw;
    for (size_t g = 1; g < n; g++)
        learner->lowest_uw = fmin(learner->lowest_uw, groups[g].lowest_uw);
    learner->state = STATIC_NOT_IDENTIFIABLE;
    if (highest - groups[0].load <= LOAD_SPREAD_MIN * highest ||
        !fit_all(groups, n, &power_uw, &sigma_uw) ||
        sigma_uw > UNCERTAINTY_MAX * lowest_power(learner))
        return;
    learner->state = STATIC_LEARNED;
    learner->known = true;
    learner->fitted_uw = fmax(0, power_uw);
    learner->uncertainty_uw =
        hypot(sigma_uw, SHAPE_ERROR * fmax(0, groups[0].power_uw - learner->fitted_uw));
}

/* The larger of two samples: one alone may be a reading that came late. */
static void lower_floor(struct static_learner *learner, double power_uw)
{
    learner->floor_uw = fmin(learner->floor_uw, fmax(power_uw, learner->last_uw));
    learner->last_uw = power_uw;
}

static void publish(struct static_learner *learner)
{
    if (!learner->known) {
        learner->power_uw = learner->floor_uw;
        return;
    }
    learner->power_uw +=
        (learner->fitted_uw - learner->power_uw) * -expm1(-learner->duration_s / SLEW_S);
    learner->power_uw = fmin(learner->power_uw, lowest_power(learner));
}

/* Only load that shows beyond any drift tells what load costs. */
static void learn_price(struct static_learner *learner)
{
    double used_uj = learner->energy_uj - learner->power_uw * learner->duration_s;

    if (learner->charged <= 0 || used_uj <= DRIFT_MAX * learner->power_uw * learner->duration_s)
        return;
    learner->busiest = fmax(learner->busiest, learner->charged / learner->duration_s);
    learner->worked = fmin(learner->worked + learner->charged, learner->busiest * PRICE_S);
    learner->price_uw += (used_uj / learner->charged - learner->price_uw) *
                         fmin(learner->charged / learner->worked, 1);
}

static void take_sample(struct static_learner *learner)
{
    struct load_sample *sample = &learner->ring[learner->next];

    *sample = (struct load_sample){
        .time_s = learner->time_s,
        .load = learner->work / learner->duration_s,
        .power_uw = learner->energy_uj / learner->duration_s,
    };
    learner->next = (learner->next + 1) % SAMPLES_MAX;
    learner->n += learner->n < SAMPLES_MAX;
    learner->added++;
    if (learner->n >= SAMPLES_MIN && learner->added % SAMPLES_PER_FIT == 0)
        fit(learner);
    lower_floor(learner, sample->power_uw);
    publish(learner);
    learn_price(learner);
}

/* As much as the interval's load leaves unexplained, within the bounds. */
static double drift(const struct static_learner *learner, double power_uw, double charged)
{
    double most = DRIFT_MAX * learner->power_uw, above = power_uw - learner->power_uw;
    double drift_uw = fmin(fmax(above - learner->price_uw * charged, -most), most);

    if (learner->known)
        return learner->price_uw > 0 ? drift_uw : 0;
    /* A floor is never above the power. */
    return fmin(drift_uw, above);
}

void static_learner_add(struct static_learner *learner, uint64_t energy_uj, uint64_t duration_ns,
                        double load, double charged)
{
    double duration_s = (double)duration_ns / (double)NSEC_PER_SEC;

    assert(duration_ns > 0);
    learner->time_s += duration_s;
    learner->duration_s += duration_s;
    learner->energy_uj += (double)energy_uj;
    learner->work += load * duration_s;
    learner->charged += charged * duration_s;
    if (learner->duration_s >= SAMPLE_S) {
        take_sample(learner);
        learner->duration_s = learner->energy_uj = learner->work = learner->charged = 0;
    } else if (learner->n == 0 && !learner->known) {
        learner->power_uw = fmin(learner->floor_uw, learner->energy_uj / learner->duration_s);
    }
    learner->drift_uw = drift(learner, (double)energy_uj / duration_s, charged);
}

struct static_estimate static_learner_estimate(const struct static_learner *learner)
{
    return (struct static_estimate){
        .state = learner->state,
        .known = learner->known,
        .power_uw = (uint64_t)learner->power_uw,
        /* Of the published value, which may still follow the fitted one or be held down. */
        .uncertainty_uw = learner->known ? (uint64_t)hypot(learner->uncertainty_uw,
                                                           learner->fitted_uw - learner->power_uw)
                                         : 0,
        .drift_uw = (int64_t)learner->drift_uw,
    };
}
