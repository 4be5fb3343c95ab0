/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform/platform_learner.h"

#include <assert.h>
#include <errno.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/macros.h"

/* Readings kept, and how many make a first estimate. */
#define READINGS_MAX 1000
#define READINGS_MIN 12
/* A fit takes a millisecond, and a few readings more hardly change it. */
#define READINGS_PER_FIT 6
/* An unchanged reading counts again after this time, which is longer than meters' update times. */
#define REPEAT_S 30.0
/* A reading's weight falls to 1/e in this time. */
#define MEMORY_S 3600.0

/* Loads are kept second by second, for as long as readings count. */
#define HISTORY_S 7200

/* The windows on trial: BMCs and PDUs are up to 20 s late, and update every 1 to 30 s. */
#define DELAY_MAX_S 20
static const double windows_s[] = {1, 2, 3, 5, 8, 12, 16, 20, 25, 30};
#define WINDOWS ARRAY_SIZE(windows_s)
#define PAST_MAX_S (DELAY_MAX_S + 30.0)

/* Huber's constant: 95 % efficient where the errors are normal. */
#define HUBER 1.345
#define ITERATIONS 12
/* A gross error: this many times the median power, or less than this part of it. */
#define GROSS 10
/* A meter's own noise, relative. */
#define METER_ERROR 0.002

/* The prior of c before there are data, joules per byte: 0, with this standard deviation. A hard
   disk takes some 5 W at 100 MB/s, an SSD at 500 MB/s. */
#define IO_SIGMA 3e-8

/* A relation is learned if the bases are this far apart, relative to the highest; uncertainties
   are up to this part of the slope and of the mean power; and readings scatter by up to this part
   of the mean power. */
#define SPREAD_MIN 0.1
#define UNCERTAINTY_MAX 0.15
#define SCATTER_MAX 0.1

/* The sums over all loads up to a whole second. */
struct second {
    double base;
    double base_squared;
    double io;
};

struct kept_reading {
    double time_s;
    double watts;
    double resolution_watts;
    double robust; /* Huber's weight in the last fit; 1 before it */
};

struct platform_learner {
    struct second seconds[HISTORY_S]; /* by second modulo HISTORY_S */
    int64_t begin_s;                  /* the first second that is known, and the last */
    int64_t last_s;                   /* begin_s > last_s: none */
    double end_s;                     /* of the last interval */
    struct second total;              /* then */

    struct kept_reading readings[READINGS_MAX];
    size_t n;
    size_t next;
    size_t added;
    double changed_watts; /* the last reading that counted */
    double changed_s;

    struct platform_estimate estimate;
};

/* A reading in terms of the window that is looked at. */
struct point {
    double base;
    double spread; /* variance of base within the window */
    double io;
    double watts;
    double floor; /* variance of the reading itself */
    double age;   /* weight, 0 to 1 */
    struct kept_reading *reading;
};

struct points {
    size_t n;
    struct point points[READINGS_MAX];
};

/* platform = a + b * base + c * io, with the variances of the three. */
struct plane {
    double a, b, c;
    double var_a, var_b, var_c;
    double scatter;
};

int platform_learner_new(struct platform_learner **ret)
{
    struct platform_learner *learner = calloc(1, sizeof(*learner));

    if (!learner)
        return -ENOMEM;
    learner->estimate.state = STATIC_LEARNING;
    learner->begin_s = 1;
    *ret = learner;
    return 0;
}

struct platform_learner *platform_learner_free(struct platform_learner *learner)
{
    free(learner);
    return NULL;
}

void platform_learner_restore(struct platform_learner *learner,
                              const struct platform_estimate *estimate)
{
    learner->estimate = *estimate;
}

void platform_learner_forget(struct platform_learner *learner)
{
    learner->n = learner->next = learner->added = 0;
    learner->changed_watts = 0;
    learner->estimate = (struct platform_estimate){.state = STATIC_LEARNING};
}

static struct second *second_at(const struct platform_learner *learner, int64_t second)
{
    return (struct second *)&learner->seconds[second % HISTORY_S];
}

void platform_learner_add_load(struct platform_learner *learner, uint64_t end_ns,
                               uint64_t duration_ns, const struct platform_load *load)
{
    double end_s = (double)end_ns / (double)NSEC_PER_SEC;
    double start_s = end_s - (double)duration_ns / (double)NSEC_PER_SEC;
    bool gap = learner->begin_s > learner->last_s || fabs(start_s - learner->end_s) > 0.5;
    double from_s = gap ? start_s : learner->end_s, passed_s = end_s - from_s;
    struct second before = learner->total;

    assert(duration_ns > 0);
    if (passed_s <= 0)
        return;
    if (gap) {
        learner->begin_s = (int64_t)ceil(start_s);
        learner->last_s = learner->begin_s - 1;
    }
    /* Only the end of a longer interval is kept. */
    if ((int64_t)end_s - learner->last_s > HISTORY_S)
        learner->begin_s = learner->last_s = (int64_t)end_s - HISTORY_S;
    while (learner->last_s + 1 <= (int64_t)end_s) {
        double elapsed_s = (double)++learner->last_s - from_s;

        *second_at(learner, learner->last_s) = (struct second){
            .base = before.base + load->base * elapsed_s,
            .base_squared = before.base_squared + load->base * load->base * elapsed_s,
            .io = before.io + load->io * elapsed_s,
        };
    }
    learner->total.base += load->base * passed_s;
    learner->total.base_squared += load->base * load->base * passed_s;
    learner->total.io += load->io * passed_s;
    learner->end_s = end_s;
    if (learner->last_s - learner->begin_s >= HISTORY_S)
        learner->begin_s = learner->last_s - HISTORY_S + 1;
}

/* The sums up to a moment between begin_s and last_s. */
static struct second sums_at(const struct platform_learner *learner, double time_s)
{
    int64_t second = (int64_t)time_s;
    double part = time_s - (double)second;
    const struct second *from = second_at(learner, second);
    const struct second *to = second < learner->last_s ? second_at(learner, second + 1) : from;

    return (struct second){
        .base = from->base + part * (to->base - from->base),
        .base_squared = from->base_squared + part * (to->base_squared - from->base_squared),
        .io = from->io + part * (to->io - from->io),
    };
}

/* @param past_s  how far back from the moment loads must be known */
static bool is_covered(const struct platform_learner *learner, double time_s, double past_s)
{
    return time_s - past_s >= (double)learner->begin_s && time_s <= (double)learner->last_s;
}

/* The means over the window before a moment. */
static struct second window_at(const struct platform_learner *learner, double time_s,
                               double delay_s, double window_s)
{
    struct second to = sums_at(learner, time_s - delay_s);
    struct second from = sums_at(learner, time_s - delay_s - window_s);

    return (struct second){
        .base = (to.base - from.base) / window_s,
        .base_squared = (to.base_squared - from.base_squared) / window_s,
        .io = (to.io - from.io) / window_s,
    };
}

static double median_watts(const struct platform_learner *learner)
{
    double watts[READINGS_MAX];

    for (size_t i = 0; i < learner->n; i++)
        watts[i] = learner->readings[i].watts;
    return gsl_stats_median(watts, 1, learner->n);
}

/* All readings for which the loads of every window are known, except gross errors. */
static void list_points(struct platform_learner *learner, struct points *ret)
{
    double median = median_watts(learner);

    ret->n = 0;
    for (size_t i = 0; i < learner->n; i++) {
        struct kept_reading *reading = &learner->readings[i];
        double error = METER_ERROR * reading->watts;

        if (!is_covered(learner, reading->time_s, PAST_MAX_S) || reading->watts > GROSS * median ||
            reading->watts < median / GROSS)
            continue;
        ret->points[ret->n++] = (struct point){
            .watts = reading->watts,
            .floor = reading->resolution_watts * reading->resolution_watts / 12 + error * error,
            .age = exp((reading->time_s - learner->end_s) / MEMORY_S),
            .reading = reading,
        };
    }
}

static void look_through(const struct platform_learner *learner, struct points *points,
                         double delay_s, double window_s)
{
    for (size_t i = 0; i < points->n; i++) {
        struct point *point = &points->points[i];
        struct second mean = window_at(learner, point->reading->time_s, delay_s, window_s);

        point->base = mean.base;
        point->io = mean.io;
        point->spread = fmax(0, mean.base_squared - mean.base * mean.base);
    }
}

/*
 * Weighted least squares; without io c is 0. The variances are for weights that
 * are reciprocal variances of the points.
 * @param prior  the same of c
 * @return false when the points do not determine the coefficients
 */
static bool fit_plane(const struct points *points, const double *weights, bool io, double prior,
                      struct plane *ret)
{
    double sum = 0, base = 0, watts = 0, rate = 0;
    double xx = 0, xy = 0, xz = 0, zz = 0, zy = 0, determinant;

    for (size_t i = 0; i < points->n; i++) {
        sum += weights[i];
        base += weights[i] * points->points[i].base;
        rate += weights[i] * points->points[i].io;
        watts += weights[i] * points->points[i].watts;
    }
    base /= sum, rate /= sum, watts /= sum;
    for (size_t i = 0; i < points->n; i++) {
        double x = points->points[i].base - base, z = points->points[i].io - rate;
        double y = points->points[i].watts - watts;

        xx += weights[i] * x * x, xy += weights[i] * x * y, xz += weights[i] * x * z;
        zz += weights[i] * z * z, zy += weights[i] * z * y;
    }
    zz += prior;
    if (!io)
        xz = zy = 0, zz = 1;
    determinant = xx * zz - xz * xz;
    /* The comparison is false for NaN as well. */
    if (!(determinant > 1e-9 * xx * zz))
        return false;
    ret->b = (xy * zz - zy * xz) / determinant;
    ret->c = io ? (zy * xx - xy * xz) / determinant : 0;
    ret->a = watts - ret->b * base - ret->c * rate;
    ret->var_b = zz / determinant;
    ret->var_c = xx / determinant;
    if (!io)
        rate = 0;
    ret->var_a = 1 / sum + base * base * ret->var_b + rate * rate * ret->var_c -
                 2 * base * rate * xz / determinant;
    return true;
}

static double residual(const struct point *point, const struct plane *plane)
{
    return point->watts - plane->a - plane->b * point->base - plane->c * point->io;
}

/* The sum of squared residuals for one window. */
static double window_cost(const struct platform_learner *learner, struct points *points,
                          double delay_s, double window_s)
{
    double weights[READINGS_MAX], squares = 0;
    struct plane plane;

    look_through(learner, points, delay_s, window_s);
    for (size_t i = 0; i < points->n; i++)
        weights[i] = points->points[i].age * points->points[i].reading->robust;
    if (!fit_plane(points, weights, true, 0, &plane) &&
        !fit_plane(points, weights, false, 0, &plane))
        return INFINITY;
    for (size_t i = 0; i < points->n; i++) {
        double error = residual(&points->points[i], &plane);

        squares += weights[i] * error * error;
    }
    return squares;
}

static void find_window(const struct platform_learner *learner, struct points *points,
                        struct platform_estimate *estimate)
{
    double best = INFINITY;

    for (size_t w = 0; w < WINDOWS; w++)
        for (int delay = 0; delay <= DELAY_MAX_S; delay++) {
            double cost = window_cost(learner, points, delay, windows_s[w]);

            if (cost >= best)
                continue;
            best = cost;
            estimate->delay_s = delay;
            estimate->window_s = windows_s[w];
        }
    look_through(learner, points, estimate->delay_s, estimate->window_s);
}

/* Of successive residuals: readings of meters that average or repeat are not independent. */
static double autocorrelation(const double *errors, const double *weights, size_t n)
{
    double products = 0, squares = 0;

    for (size_t i = 1; i < n; i++) {
        products += sqrt(weights[i] * weights[i - 1]) * errors[i] * errors[i - 1];
        squares += weights[i] * errors[i] * errors[i];
    }
    return squares > 0 ? fmin(fmax(products / squares, 0), 0.9) : 0;
}

/*
 * Scales the variances of the coefficients to the scatter of the points, what lies far off counting
 * no more than in the fit: Huber, "Robust Statistics", Wiley 1981, section 7.6.
 */
static void scale_variances(const struct points *points, const double *weights, struct plane *plane)
{
    double errors[READINGS_MAX], work[READINGS_MAX], sum = 0, squares = 0, chi_square = 0;
    double correlation, scale, near = 0;

    for (size_t i = 0; i < points->n; i++) {
        double robust = points->points[i].reading->robust;

        errors[i] = residual(&points->points[i], plane);
        sum += weights[i];
        squares += weights[i] * weights[i];
        chi_square += weights[i] * robust * errors[i] * errors[i];
        near += robust >= 1;
    }
    near /= (double)points->n;
    correlation = autocorrelation(errors, weights, points->n);
    scale = chi_square / (near * near) / fmax(sum * sum / squares - 3, 1) * (1 + correlation) /
            (1 - correlation);
    plane->var_a *= scale;
    plane->var_b *= scale;
    plane->var_c *= scale;
    plane->scatter = gsl_stats_mad(errors, 1, points->n, work);
}

/* @return false when the points do not determine the coefficients */
static bool fit_robustly(struct points *points, bool io, struct plane *ret)
{
    double weights[READINGS_MAX], errors[READINGS_MAX], work[READINGS_MAX], sigmas[READINGS_MAX];

    double scale = 1;

    ret->b = 1;
    for (size_t i = 0; i < points->n; i++)
        points->points[i].reading->robust = 1;
    for (unsigned iteration = 0; iteration < ITERATIONS; iteration++) {
        for (size_t i = 0; i < points->n; i++) {
            const struct point *point = &points->points[i];

            sigmas[i] = sqrt(point->floor + ret->b * ret->b * point->spread);
            weights[i] = point->age * point->reading->robust / (sigmas[i] * sigmas[i]);
        }
        if (!fit_plane(points, weights, io, scale * scale / (IO_SIGMA * IO_SIGMA), ret))
            return false;
        for (size_t i = 0; i < points->n; i++)
            errors[i] = residual(&points->points[i], ret) / sigmas[i];
        /* At least the errors of resolution and timing: a perfect fit has no outliers. */
        scale = fmax(1, gsl_stats_mad(errors, 1, points->n, work));
        for (size_t i = 0; i < points->n; i++)
            points->points[i].reading->robust =
                HUBER * scale / fmax(fabs(errors[i]), HUBER * scale);
    }
    scale_variances(points, weights, ret);
    return true;
}

static bool is_learned(const struct points *points, const struct plane *plane)
{
    double lowest = INFINITY, highest = 0, sum = 0, mean;

    for (size_t i = 0; i < points->n; i++) {
        lowest = fmin(lowest, points->points[i].base);
        highest = fmax(highest, points->points[i].base);
        sum += points->points[i].watts;
    }
    mean = sum / (double)points->n;
    return highest - lowest > SPREAD_MIN * highest && plane->b > 0 &&
           sqrt(plane->var_b) <= UNCERTAINTY_MAX * plane->b &&
           sqrt(plane->var_a) <= UNCERTAINTY_MAX * mean && plane->scatter <= SCATTER_MAX * mean;
}

static void fit(struct platform_learner *learner)
{
    struct platform_estimate estimate = {.state = STATIC_LEARNED, .known = true};
    struct plane plane = {0};
    struct points points;

    list_points(learner, &points);
    if (points.n < READINGS_MIN)
        return;
    learner->estimate.state = STATIC_NOT_IDENTIFIABLE;
    find_window(learner, &points, &estimate);
    /* If io seems to give power back, it stands for something else: leave it out. */
    if (!fit_robustly(&points, true, &plane) || plane.c < 0)
        if (!fit_robustly(&points, false, &plane))
            return;
    if (!is_learned(&points, &plane))
        return;
    estimate.static_watts = fmax(0, plane.a);
    estimate.static_sigma = sqrt(plane.var_a);
    estimate.slope = plane.b;
    estimate.slope_sigma = sqrt(plane.var_b);
    estimate.io_joules_per_byte = plane.c;
    estimate.scatter_watts = plane.scatter;
    learner->estimate = estimate;
}

void platform_learner_add_reading(struct platform_learner *learner, uint64_t time_ns,
                                  uint64_t power_uw, uint64_t resolution_uw)
{
    double time_s = (double)time_ns / (double)NSEC_PER_SEC, watts = (double)power_uw / 1e6;

    if (watts == learner->changed_watts && time_s < learner->changed_s + REPEAT_S)
        return;
    learner->changed_watts = watts;
    learner->changed_s = time_s;
    learner->readings[learner->next] = (struct kept_reading){
        .time_s = time_s,
        .watts = watts,
        .resolution_watts = (double)resolution_uw / 1e6,
        .robust = 1,
    };
    learner->next = (learner->next + 1) % READINGS_MAX;
    learner->n += learner->n < READINGS_MAX;
    learner->added++;
    if (learner->added % READINGS_PER_FIT == 0)
        fit(learner);
}

struct platform_estimate platform_learner_estimate(const struct platform_learner *learner)
{
    return learner->estimate;
}

bool platform_learner_expect(const struct platform_learner *learner, uint64_t time_ns,
                             double *ret_watts)
{
    const struct platform_estimate *estimate = &learner->estimate;
    double time_s = (double)time_ns / (double)NSEC_PER_SEC;
    struct second mean;

    if (time_s > learner->end_s)
        return false;
    time_s = fmin(time_s, (double)learner->last_s);
    if (!estimate->known || !is_covered(learner, time_s, estimate->delay_s + estimate->window_s))
        return false;
    mean = window_at(learner, time_s, estimate->delay_s, estimate->window_s);
    *ret_watts = estimate->static_watts + estimate->slope * mean.base +
                 estimate->io_joules_per_byte * mean.io;
    return true;
}
