/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/calibration.h"

#include <errno.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "util/clock.h"

/* A window is quiet up to this share of the CPU time. */
#define QUIET_BUSY 0.05
/* If too few windows are quiet, the quietest part of them is used: a quarter. */
#define QUIETEST_PART 4

/* The limits of --strict, relative to the power. */
#define SPREAD_MAX 0.05
#define LOAD_MAX 0.10

/* A line of power over load can be fitted to loads that differ by this much. */
#define BUSY_SPREAD_MIN 0.01
/* Without such a line: full load adds up to three times the power without load. */
#define LOAD_POWER_MAX 3

/* The standard error of the median of normal values is this much larger than the mean's. */
#define MEDIAN_ERROR 1.2533

/* The windows by increasing load. */
struct series {
    size_t n;
    double busy[CALIBRATION_WINDOWS_MAX];
    double energy_uj[CALIBRATION_WINDOWS_MAX];
    double power_uw[CALIBRATION_WINDOWS_MAX];
    double duration_s[CALIBRATION_WINDOWS_MAX];
};

static void sort_windows(const struct calibration_window *windows, size_t n, struct series *ret)
{
    size_t order[CALIBRATION_WINDOWS_MAX];

    gsl_sort_index(order, &windows[0].busy, sizeof(windows[0]) / sizeof(double), n);
    ret->n = n;
    for (size_t i = 0; i < n; i++) {
        const struct calibration_window *window = &windows[order[i]];

        ret->busy[i] = window->busy;
        ret->energy_uj[i] = (double)window->energy_uj;
        ret->duration_s[i] = (double)window->duration_ns / (double)NSEC_PER_SEC;
        ret->power_uw[i] = ret->energy_uj[i] / ret->duration_s[i];
    }
}

static double median(const double *values, size_t n)
{
    double copy[CALIBRATION_WINDOWS_MAX];

    memcpy(copy, values, n * sizeof(*values));
    return gsl_stats_median(copy, 1, n);
}

/* @return how many of the windows are used, from the quietest on */
static size_t count_quiet(const struct series *series, struct calibration *calibration)
{
    size_t quiet = 0;

    while (quiet < series->n && series->busy[quiet] <= QUIET_BUSY)
        quiet++;
    if (quiet * 2 < series->n)
        calibration->flaws |= CALIBRATION_BUSY;
    if (quiet < CALIBRATION_WINDOWS_MIN / 2)
        quiet = CALIBRATION_WINDOWS_MIN / 2;
    return quiet > series->n / QUIETEST_PART ? quiet : series->n / QUIETEST_PART;
}

/* The counter's step: the least distance of two energies; 0 if all are equal. */
static double counter_quantum(const struct series *series, size_t n)
{
    double energies[CALIBRATION_WINDOWS_MAX], quantum = INFINITY;

    memcpy(energies, series->energy_uj, n * sizeof(*energies));
    gsl_sort(energies, 1, n);
    for (size_t i = 1; i < n; i++)
        if (energies[i] - energies[i - 1] > 0.5)
            quantum = fmin(quantum, energies[i] - energies[i - 1]);
    return isinf(quantum) ? 0 : quantum;
}

/*
 * Power at full load less power without, from the quietest and the busiest third
 * (the resistant line: Tukey, "Exploratory Data Analysis", 1977, chapter 5).
 * @return false when their loads are too much alike
 */
static bool load_power(const struct series *series, double *ret)
{
    size_t third = series->n / 3, last = series->n - third;
    double rise = median(series->busy + last, third) - median(series->busy, third);

    if (rise < BUSY_SPREAD_MIN)
        return false;
    *ret =
        fmax(0, (median(series->power_uw + last, third) - median(series->power_uw, third)) / rise);
    return true;
}

/* The typical power of the quiet windows, and its standard error. */
static void average_quiet(const struct series *series, struct calibration *calibration)
{
    double energy_uj = 0, duration_s = 0, work[CALIBRATION_WINDOWS_MAX];
    size_t n = calibration->quiet;
    double quantum, step;

    for (size_t i = 0; i < n; i++) {
        energy_uj += series->energy_uj[i];
        duration_s += series->duration_s[i];
    }
    quantum = counter_quantum(series, n);
    step = quantum * (double)n / duration_s;
    calibration->spread_uw = gsl_stats_mad(series->power_uw, 1, n, work);
    calibration->power_uw = median(series->power_uw, n);
    calibration->uncertainty_uw = MEDIAN_ERROR * calibration->spread_uw / sqrt((double)n);
    /* If the counter's steps are as large as the spread, the median is one of the steps. The sum of
       successive windows is wrong by two half steps at most, whatever their number. */
    if (step >= calibration->spread_uw) {
        calibration->power_uw = energy_uj / duration_s;
        calibration->uncertainty_uw = fmax(calibration->spread_uw, step) / sqrt((double)n);
    }
    if (calibration->spread_uw > fmax(SPREAD_MAX * calibration->power_uw, step))
        calibration->flaws |= CALIBRATION_UNSTEADY;
}

/* Takes off the power that the quiet windows' load draws. */
static void remove_load(const struct series *series, struct calibration *calibration)
{
    double busy = median(series->busy, calibration->quiet), full_uw;
    double error_uw = busy * LOAD_POWER_MAX * calibration->power_uw;

    if (load_power(series, &full_uw)) {
        calibration->load_uw = fmin(busy * full_uw, calibration->power_uw);
        /* The line may bend towards no load: half of its correction is uncertain. */
        error_uw = calibration->load_uw / 2;
    }
    if (fmax(calibration->load_uw, error_uw) > LOAD_MAX * calibration->power_uw)
        calibration->flaws |= CALIBRATION_EXTRAPOLATED;
    calibration->power_uw -= calibration->load_uw;
    calibration->uncertainty_uw = hypot(calibration->uncertainty_uw, error_uw);
}

int calibrate_zone(const struct calibration_window *windows, size_t n, struct calibration *ret)
{
    struct calibration calibration = {0};
    struct series series;

    if (n < CALIBRATION_WINDOWS_MIN || n > CALIBRATION_WINDOWS_MAX)
        return -EINVAL;
    sort_windows(windows, n, &series);
    calibration.busy = median(series.busy, n);
    calibration.quiet = count_quiet(&series, &calibration);
    average_quiet(&series, &calibration);
    remove_load(&series, &calibration);
    *ret = calibration;
    return 0;
}
