/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>

#include "attribution/baseline_learner.h"
#include "util/clock.h"

#define MINUTES 60
#define CORES 32

/* A simulated zone: its load wanders between two bounds, its power follows. */
struct host {
    double static_watts;
    double dynamic_watts;      /* at full load */
    double (*curve)(double u); /* of load, 0 to 1, to the part of dynamic_watts */
    double load_min, load_max;
    int levels;      /* the load takes only so many values; 0: any */
    double noise;    /* of the power, relative, white */
    double lag;      /* part of the last second's power that shows in this one's */
    double outliers; /* part of the samples whose power is up to tripled, or nearly none */
    double spikes;   /* part of the samples in which the load jumps to the maximum */
    double drift;    /* watts per second that static_watts grows by */
    double load;     /* 0 to 1 */
    double watts;    /* of the last second, before noise */
    double lowest;   /* watts, of all samples but outliers */
    uint64_t random; /* state; the seed to begin with */
};

/* splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
   the same traces in every run. */
static double uniform(struct host *host)
{
    uint64_t z = host->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) / (double)(UINT64_C(1) << 53);
}

/* The sum of 12 is close to normal, with variance 1. */
static double normal(struct host *host)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += uniform(host);
    return sum;
}

/* Many guests: a random walk, now and then a jump. */
static double next_load(struct host *host)
{
    double range = host->load_max - host->load_min, part;

    if (uniform(host) < host->spikes)
        return host->load_max;
    if (uniform(host) < 0.02)
        host->load = host->load_min + range * uniform(host);
    host->load += 0.05 * range * normal(host);
    host->load = fmin(fmax(host->load, host->load_min), host->load_max);
    if (host->levels == 0)
        return host->load;
    if (host->levels == 1)
        return host->load_min;
    part = (host->load - host->load_min) / range * (host->levels - 1);
    return host->load_min + range * round(part) / (host->levels - 1);
}

static void run_seconds(struct baseline_learner *learner, struct host *host, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        double load = next_load(host);
        double watts = host->static_watts + host->dynamic_watts * host->curve(load);

        host->static_watts += host->drift;
        host->watts = host->watts > 0 ? host->lag * host->watts + (1 - host->lag) * watts : watts;
        watts = host->watts * (1 + host->noise * normal(host));
        host->lowest = host->lowest > 0 ? fmin(host->lowest, watts) : watts;
        if (uniform(host) < host->outliers)
            watts *= uniform(host) < 0.1 ? 0.01 : 1 + 2 * uniform(host);
        baseline_learner_add(learner, (uint64_t)(watts * 1e6), NSEC_PER_SEC, load * CORES);
    }
}

static struct baseline_estimate learn(struct host *host, int seconds)
{
    struct baseline_learner *learner;
    struct baseline_estimate estimate;

    assert_int_equal(baseline_learner_new(&learner), 0);
    run_seconds(learner, host, seconds);
    estimate = baseline_learner_estimate(learner);
    baseline_learner_free(learner);
    return estimate;
}

static double watts_of(const struct baseline_estimate *estimate)
{
    return (double)estimate->power_uw / 1e6;
}

static double line(double u)
{
    return u;
}

static double thesis_host(double u)
{
    return pow(u, 0.98);
}

static double concave(double u)
{
    return pow(u, 0.9);
}

static double very_concave(double u)
{
    return pow(u, 0.8);
}

static double convex(double u)
{
    return pow(u, 1.15);
}

static double very_convex(double u)
{
    return pow(u, 1.3);
}

/* Beyond half the threads, siblings share cores; who cannot see that gets this. */
static double smt(double u)
{
    return u < 0.5 ? 1.3 * u : 0.65 + 0.7 * (u - 0.5);
}

static double strong_smt(double u)
{
    return u < 0.5 ? 1.6 * u : 0.8 + 0.4 * (u - 0.5);
}

/* The clock rises from 70 % between 40 % and 80 % load; voltage with it a little. */
static double rising_clock(double u)
{
    double clock = 0.7 + 0.3 * fmin(fmax((u - 0.4) / 0.4, 0), 1);

    return u * clock * clock;
}

/* The claim: within 5 % after ten minutes of 20 to 90 % load, never above the lowest power. */
static void test_never_idle(void **state)
{
    static double (*const curves[])(double) = {line,   thesis_host, concave, very_concave,
                                               convex, very_convex, smt,     strong_smt};

    for (unsigned c = 0; c < ELEMENTS(curves); c++)
        for (uint64_t seed = 0; seed < 10; seed++) {
            struct host host = {.static_watts = 40,
                                .dynamic_watts = 80,
                                .curve = curves[c],
                                .load_min = 0.2,
                                .load_max = 0.9,
                                .noise = 0.005,
                                .random = seed};
            struct baseline_estimate estimate = learn(&host, 10 * MINUTES);

            assert_int_equal(estimate.state, BASELINE_LEARNED);
            assert_true(estimate.known);
            assert_float_equal(watts_of(&estimate), 40, 0.05 * 40);
            assert_true(watts_of(&estimate) <= host.lowest);
            assert_in_range(estimate.uncertainty_uw, 1, 40000000 / 5);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
