/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>

#include "../lib/random.h"
#include "baseline/static_learner.h"
#include "util/clock.h"

#define MINUTES 60
#define CORES 32

/* A simulated zone: its load wanders between two bounds, its power follows. */
struct host {
    double static_watts;
    double dynamic_watts;      /* at full load */
    double (*curve)(double u); /* of load, 0 to 1, to the part of dynamic_watts */
    double load_min, load_max;
    int levels;           /* the load takes only so many values; 0: any */
    double noise;         /* of the power, relative, white */
    double lag;           /* part of the last second's power that shows in this one's */
    double outliers;      /* part of the samples whose power is up to tripled, or nearly none */
    double spikes;        /* part of the samples in which the load jumps to the maximum */
    double drift;         /* watts per second that static_watts grows by */
    double load;          /* 0 to 1 */
    double watts;         /* of the last second, before noise */
    double lowest;        /* watts, of all samples, before noise */
    struct random random; /* its state is the seed to begin with */
};

/* Many guests: a random walk, now and then a jump. */
static double next_load(struct host *host)
{
    double range = host->load_max - host->load_min, part;

    if (random_uniform(&host->random, 0, 1) < host->spikes)
        return host->load_max;
    if (random_uniform(&host->random, 0, 1) < 0.02)
        host->load = random_uniform(&host->random, host->load_min, host->load_max);
    host->load += 0.05 * range * random_normal(&host->random);
    host->load = fmin(fmax(host->load, host->load_min), host->load_max);
    if (host->levels == 0)
        return host->load;
    if (host->levels == 1)
        return host->load_min;
    part = (host->load - host->load_min) / range * (host->levels - 1);
    return host->load_min + range * round(part) / (host->levels - 1);
}

static void run_seconds(struct static_learner *learner, struct host *host, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        double load = next_load(host);
        double watts = host->static_watts + host->dynamic_watts * host->curve(load);

        host->static_watts += host->drift;
        host->watts = host->watts > 0 ? host->lag * host->watts + (1 - host->lag) * watts : watts;
        host->lowest = host->lowest > 0 ? fmin(host->lowest, host->watts) : host->watts;
        watts = host->watts * (1 + host->noise * random_normal(&host->random));
        if (random_uniform(&host->random, 0, 1) < host->outliers)
            watts *= random_uniform(&host->random, 0, 1) < 0.05
                         ? 0.01
                         : random_uniform(&host->random, 1, 3);
        static_learner_add(learner, (uint64_t)(watts * 1e6), NSEC_PER_SEC, load * CORES,
                           load * CORES);
    }
}

static struct static_estimate learn(struct host *host, int seconds)
{
    struct static_learner *learner;
    struct static_estimate estimate;

    assert_int_equal(static_learner_new(&learner), 0);
    run_seconds(learner, host, seconds);
    estimate = static_learner_estimate(learner);
    static_learner_free(learner);
    return estimate;
}

static double watts_of(const struct static_estimate *estimate)
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
static double smt_hidden(double u)
{
    return u < 0.5 ? 1.3 * u : 0.65 + 0.7 * (u - 0.5);
}

static double strong_smt_hidden(double u)
{
    return u < 0.5 ? 1.6 * u : 0.8 + 0.4 * (u - 0.5);
}

/* The clock rises from 70 % between 40 % and 80 % load; voltage with it a little. */
static double rising_clock(double u)
{
    double clock = 0.7 + 0.3 * fmin(fmax((u - 0.4) / 0.4, 0), 1);

    return u * clock * clock;
}

static const struct host typical = {
    .static_watts = 40,
    .dynamic_watts = 80,
    .curve = line,
    .load_min = 0.2,
    .load_max = 0.9,
    .noise = 0.005,
};

/* Learns for ten minutes on ten traces; the power must come out within a part of the truth. */
static void check_host(const struct host *model, double tolerance)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct host host = *model;
        struct static_estimate estimate;

        host.random.state = seed;
        estimate = learn(&host, 10 * MINUTES);
        assert_int_equal(estimate.state, STATIC_LEARNED);
        assert_true(estimate.known);
        assert_float_equal(watts_of(&estimate), model->static_watts,
                           tolerance * model->static_watts);
        assert_true(watts_of(&estimate) <= host.lowest);
        assert_in_range(estimate.uncertainty_uw, 1, 40000000 / 5);
        assert_true(fabs(watts_of(&estimate) - model->static_watts) * 1e6 <=
                    2.5 * (double)estimate.uncertainty_uw);
    }
}

/* The claim: within 5 % after ten minutes of 20 to 90 % load, never above the lowest power. */
static void test_never_idle(void **state)
{
    static double (*const curves[])(double) = {line,   thesis_host, concave,    very_concave,
                                               convex, very_convex, smt_hidden, strong_smt_hidden};

    for (size_t i = 0; i < ELEMENTS(curves); i++) {
        struct host host = typical;

        host.curve = curves[i];
        check_host(&host, 0.05);
    }
}

static void test_rising_clock(void **state)
{
    struct host host = typical;

    host.curve = rising_clock;
    check_host(&host, 0.05);
}

/* What filtering adds to RAPL: a power that comes late, and noise. */
static void test_noise(void **state)
{
    struct host noisy = typical;
    struct host late = typical;

    noisy.noise = 0.01;
    late.noise = 0.01;
    late.lag = 0.1;
    check_host(&noisy, 0.05);
    check_host(&late, 0.05);
}

static void test_outliers(void **state)
{
    struct host host = typical;

    host.outliers = 0.04;
    check_host(&host, 0.05);
}

static void test_spikes(void **state)
{
    struct host host = typical;
    struct host rare = typical;

    host.spikes = 0.05;
    rare.load_min = 0.05;
    rare.load_max = 0.9;
    rare.spikes = 0.02;
    check_host(&host, 0.05);
    check_host(&rare, 0.05);
}

static void test_two_levels(void **state)
{
    struct host host = typical;

    host.levels = 2;
    check_host(&host, 0.05);
}

/* Nothing is extrapolated: the lowest load is none. */
static void test_idle_at_times(void **state)
{
    static double (*const curves[])(double) = {line, very_concave, very_convex, strong_smt_hidden};

    for (size_t i = 0; i < ELEMENTS(curves); i++) {
        struct host host = typical;

        host.curve = curves[i];
        host.load_min = 0;
        check_host(&host, 0.03);
    }
}

/* +20 % in half an hour: the estimate is never more than 5 % off. */
static void test_drift(void **state)
{
    struct host host = typical;
    struct static_learner *learner;

    host.random.state = 3;
    assert_int_equal(static_learner_new(&learner), 0);
    run_seconds(learner, &host, 10 * MINUTES);
    host.drift = 8.0 / (30 * MINUTES);
    for (int i = 0; i < 30; i++) {
        struct static_estimate estimate;

        run_seconds(learner, &host, MINUTES);
        estimate = static_learner_estimate(learner);
        assert_int_equal(estimate.state, STATIC_LEARNED);
        assert_float_equal(watts_of(&estimate), host.static_watts, 0.05 * host.static_watts);
    }
    host.drift = 0;
    run_seconds(learner, &host, 10 * MINUTES);
    assert_float_equal((double)static_learner_estimate(learner).power_uw / 1e6, 48, 0.05 * 48);
    static_learner_free(learner);
}

static void test_constant_load(void **state)
{
    struct host host = typical;
    struct host jitter = typical;
    struct static_estimate estimate;

    host.load_min = 0.5;
    host.load_max = 0.5;
    host.levels = 1;
    jitter.load_min = 0.5;
    jitter.load_max = 0.53;
    estimate = learn(&host, 30 * MINUTES);
    assert_int_equal(estimate.state, STATIC_NOT_IDENTIFIABLE);
    assert_false(estimate.known);
    /* The floor: 80 W but for the noise. */
    assert_float_equal(watts_of(&estimate), 80, 4 * 0.005 * 80);
    assert_int_equal(estimate.uncertainty_uw, 0);
    estimate = learn(&jitter, 30 * MINUTES);
    assert_int_equal(estimate.state, STATIC_NOT_IDENTIFIABLE);
    assert_false(estimate.known);
}

/* What was learned stays while the load says nothing new. */
static void test_load_becomes_constant(void **state)
{
    struct host host = typical;
    struct static_learner *learner;
    struct static_estimate before, after;

    host.random.state = 1;
    assert_int_equal(static_learner_new(&learner), 0);
    run_seconds(learner, &host, 20 * MINUTES);
    before = static_learner_estimate(learner);
    host.load_min = host.load_max = host.load = 0.4;
    host.levels = 1;
    run_seconds(learner, &host, 60 * MINUTES);
    after = static_learner_estimate(learner);
    assert_int_equal(after.state, STATIC_NOT_IDENTIFIABLE);
    assert_true(after.known);
    assert_float_equal(watts_of(&after), watts_of(&before), 0.05 * 40);
    static_learner_free(learner);
}

/* The host draws less than was learned: the baseline is below that within seconds. */
static void test_power_falls(void **state)
{
    struct host host = typical;
    struct static_learner *learner;

    host.random.state = 2;
    assert_int_equal(static_learner_new(&learner), 0);
    run_seconds(learner, &host, 20 * MINUTES);
    host = typical;
    host.static_watts = 10;
    host.dynamic_watts = 20;
    host.load_min = 0.5;
    host.load_max = 0.5;
    host.levels = 1;
    host.noise = 0;
    run_seconds(learner, &host, 10);
    assert_int_equal(static_learner_estimate(learner).power_uw, 20000000);
    static_learner_free(learner);
}

static void test_power_does_not_follow_load(void **state)
{
    struct host host = typical;

    host.dynamic_watts = -20;
    assert_int_equal(learn(&host, 10 * MINUTES).state, STATIC_NOT_IDENTIFIABLE);
    host = typical;
    host.static_watts = 0;
    host.dynamic_watts = 0;
    assert_int_equal(learn(&host, 10 * MINUTES).state, STATIC_NOT_IDENTIFIABLE);
    host = typical;
    host.load_min = 0;
    host.load_max = 0;
    host.levels = 1;
    assert_int_equal(learn(&host, 10 * MINUTES).state, STATIC_NOT_IDENTIFIABLE);
}

static void add_watts(struct static_learner *learner, double watts, double cores)
{
    static_learner_add(learner, (uint64_t)(watts * 1e6), NSEC_PER_SEC, cores, cores);
}

static double static_watts_now(const struct static_learner *learner)
{
    struct static_estimate estimate = static_learner_estimate(learner);

    return (double)((int64_t)estimate.power_uw + estimate.drift_uw) / 1e6;
}

/* The least power seen is static from the first interval on, and one late reading is none. */
static void test_floor(void **state)
{
    struct static_learner *learner;

    assert_int_equal(static_learner_new(&learner), 0);
    assert_int_equal(static_learner_estimate(learner).power_uw, 0);
    add_watts(learner, 50, 1);
    assert_float_equal(static_watts_now(learner), 50, 1e-5);
    add_watts(learner, 80, 4);
    assert_int_equal(static_learner_estimate(learner).power_uw, 50000000);
    add_watts(learner, 1, 1);
    add_watts(learner, 99, 1);
    assert_int_equal(static_learner_estimate(learner).power_uw, 50000000);
    add_watts(learner, 40, 0.5);
    assert_true(static_watts_now(learner) <= 40);
    add_watts(learner, 40, 0.5);
    assert_int_equal(static_learner_estimate(learner).power_uw, 40000000);
    assert_int_equal(static_learner_estimate(learner).uncertainty_uw, 0);
    assert_false(static_learner_estimate(learner).known);
    static_learner_free(learner);
}

/* A fine first interval is a floor, too. */
static void test_floor_before_a_sample(void **state)
{
    struct static_learner *learner;

    assert_int_equal(static_learner_new(&learner), 0);
    static_learner_add(learner, 5000000, NSEC_PER_SEC / 10, 1, 1);
    assert_float_equal(static_watts_now(learner), 50, 1e-5);
    static_learner_add(learner, 4000000, NSEC_PER_SEC / 10, 1, 1);
    assert_true(static_watts_now(learner) <= 45);
    static_learner_free(learner);
}

/* Idle load costs per core what load costs, although the floor's error is worth more. */
static void test_idle_costs_what_load_costs(void **state)
{
    const double noise[] = {0, 0.3, -0.2, 0.5, 0.1, -0.3};
    struct static_learner *learner;

    assert_int_equal(static_learner_new(&learner), 0);
    for (int i = 0; i < 50; i++) {
        double cores = i / 5 % 2 ? 4 : 0.01, watts = 20 + 5 * cores + noise[i % 6];

        add_watts(learner, watts, cores);
        if (i >= 15 && cores < 1)
            assert_float_equal((watts - static_watts_now(learner)) / cores, 5, 0.2);
    }
    static_learner_free(learner);
}

/* The drift is bounded: power that no load explains counts as load's beyond it. */
static void test_drift_is_bounded(void **state)
{
    struct static_learner *learner;

    assert_int_equal(static_learner_new(&learner), 0);
    add_watts(learner, 20, 0);
    add_watts(learner, 40, 1);
    add_watts(learner, 30, 0);
    assert_float_equal(static_watts_now(learner), 21, 1e-5);
    add_watts(learner, 30, 2);
    assert_float_equal(static_watts_now(learner), 19, 1e-5);
    static_learner_free(learner);
}

/* The next daemon's floor is this one's, also at a constant high load. */
static void test_floor_is_resumed(void **state)
{
    const struct static_estimate former = {.power_uw = 20000000};
    struct static_learner *learner;

    assert_int_equal(static_learner_new(&learner), 0);
    static_learner_resume(learner, &former);
    assert_int_equal(static_learner_estimate(learner).power_uw, 20000000);
    for (int i = 0; i < 100; i++)
        add_watts(learner, 80, 8);
    assert_int_equal(static_learner_estimate(learner).power_uw, 20000000);
    assert_false(static_learner_estimate(learner).known);
    static_learner_free(learner);
}

/* Nothing is said too early, and what is said then comes in slowly. */
static void test_beginning(void **state)
{
    struct host host = typical;
    struct static_learner *learner;
    double last = 0;

    host.random.state = 5;
    assert_int_equal(static_learner_new(&learner), 0);
    run_seconds(learner, &host, 59);
    assert_int_equal(static_learner_estimate(learner).state, STATIC_LEARNING);
    assert_false(static_learner_estimate(learner).known);
    last = (double)static_learner_estimate(learner).power_uw / 1e6; /* the floor */
    for (int i = 0; i < 10 * MINUTES; i++) {
        struct static_estimate estimate;

        run_seconds(learner, &host, 1);
        estimate = static_learner_estimate(learner);
        assert_true(fabs(watts_of(&estimate) - last) < 1);
        last = watts_of(&estimate);
    }
    static_learner_free(learner);
}

/* Ten intervals of 100 ms teach what one of a second does. */
static void test_fine_interval(void **state)
{
    struct host host = typical;
    struct static_learner *coarse, *fine;

    host.random.state = 6;
    assert_int_equal(static_learner_new(&coarse), 0);
    assert_int_equal(static_learner_new(&fine), 0);
    for (int i = 0; i < 5 * MINUTES; i++) {
        double load = next_load(&host);
        uint64_t energy_uj = (uint64_t)((40 + 80 * load) * 1e6);

        static_learner_add(coarse, energy_uj / 10 * 10, NSEC_PER_SEC, load, load);
        for (int part = 0; part < 10; part++)
            static_learner_add(fine, energy_uj / 10, NSEC_PER_SEC / 10, load, load);
    }
    assert_in_range(static_learner_estimate(fine).power_uw,
                    static_learner_estimate(coarse).power_uw - 10,
                    static_learner_estimate(coarse).power_uw + 10);
    static_learner_free(coarse);
    static_learner_free(fine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_idle),
        cmocka_unit_test(test_rising_clock),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_spikes),
        cmocka_unit_test(test_two_levels),
        cmocka_unit_test(test_idle_at_times),
        cmocka_unit_test(test_drift),
        cmocka_unit_test(test_constant_load),
        cmocka_unit_test(test_load_becomes_constant),
        cmocka_unit_test(test_power_falls),
        cmocka_unit_test(test_power_does_not_follow_load),
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_fine_interval),
        cmocka_unit_test(test_floor),
        cmocka_unit_test(test_floor_before_a_sample),
        cmocka_unit_test(test_idle_costs_what_load_costs),
        cmocka_unit_test(test_drift_is_bounded),
        cmocka_unit_test(test_floor_is_resumed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
