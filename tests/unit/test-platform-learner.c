/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>

#include "../lib/thesis.h"
#include "metered_machine.h"
#include "platform/platform_learner.h"
#include "util/clock.h"

#define MINUTES 60
#define START_S 1000
#define WATT UINT64_C(1000000)

/* @param poll_s  the meter is read so often */
static void run_seconds(struct platform_learner *learner, struct metered_machine *machine,
                        unsigned seconds, unsigned poll_s)
{
    for (unsigned i = 0; i < seconds; i++) {
        uint64_t end_ns = (START_S + machine->time_s + 1) * NSEC_PER_SEC;
        double watts = metered_machine_step(machine);

        platform_learner_add_load(
            learner, end_ns, NSEC_PER_SEC,
            &(struct platform_load){.base = machine->rapl, .io = machine->io});
        if (machine->time_s % poll_s == 0 && machine->time_s > 60)
            platform_learner_add_reading(learner, end_ns, (uint64_t)(watts * 1e6), WATT);
    }
}

static struct platform_estimate learn(struct metered_machine *machine, unsigned seconds,
                                      unsigned poll_s)
{
    struct platform_learner *learner;
    struct platform_estimate estimate;

    assert_int_equal(platform_learner_new(&learner), 0);
    run_seconds(learner, machine, seconds, poll_s);
    estimate = platform_learner_estimate(learner);
    platform_learner_free(learner);
    return estimate;
}

/* Both within a part of the truth, on several traces. */
static void check_machine(const struct metered_machine *model, unsigned minutes, double tolerance)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct metered_machine machine = *model;
        struct platform_estimate estimate;

        machine.random.state = seed;
        estimate = learn(&machine, minutes * MINUTES, 5);
        assert_int_equal(estimate.state, STATIC_LEARNED);
        assert_true(estimate.known);
        assert_float_equal(estimate.slope, model->slope, tolerance * model->slope);
        assert_float_equal(estimate.static_watts, model->static_watts,
                           tolerance * model->static_watts);
        assert_true(fabs(estimate.slope - model->slope) <= 4 * estimate.slope_sigma);
        assert_true(fabs(estimate.static_watts - model->static_watts) <= 4 * estimate.static_sigma);
    }
}

/* The claim: steps of 1 W, updates every 1 to 30 s, a delay of 0 to 20 s. Polls and updates
   drift past each other, but for some that meet. The laboratory has the other combinations. */
static void test_meters(void **state)
{
    static const struct {
        unsigned delay_s, update_s;
    } meters[] = {{0, 2}, {0, 30}, {8, 7}, {20, 1}, {20, 13}, {20, 30}};

    for (size_t i = 0; i < ELEMENTS(meters); i++) {
        struct metered_machine machine = typical_machine;

        machine.delay_s = meters[i].delay_s;
        machine.update_s = meters[i].update_s;
        check_machine(&machine, 60, 0.05);
    }
}

static void test_delay_is_found(void **state)
{
    static const unsigned delays_s[] = {0, 7, 20};

    for (size_t d = 0; d < ELEMENTS(delays_s); d++) {
        struct metered_machine machine = typical_machine;
        struct platform_estimate estimate;

        machine.random.state = d;
        machine.delay_s = delays_s[d];
        estimate = learn(&machine, 20 * MINUTES, 5);
        assert_float_equal(estimate.delay_s, delays_s[d], 0);
        assert_float_equal(estimate.window_s, 1, 0);
        machine = typical_machine;
        machine.delay_s = delays_s[d];
        machine.average_s = 30;
        estimate = learn(&machine, 20 * MINUTES, 5);
        assert_float_equal(estimate.delay_s, delays_s[d], 1);
        assert_float_equal(estimate.window_s, 30, 5);
    }
}

/* The published points, each held for as long as there, give the published relation. */
static void test_thesis(void **state)
{
    struct platform_learner *learner;
    struct platform_estimate estimate;
    uint64_t time_s = START_S;

    assert_int_equal(platform_learner_new(&learner), 0);
    for (size_t i = 0; i < n_thesis_points; i++)
        for (unsigned s = 0; s < 5 * MINUTES; s++) {
            const struct platform_load load = {.base = thesis_points[i].rapl_watts};

            platform_learner_add_load(learner, ++time_s * NSEC_PER_SEC, NSEC_PER_SEC, &load);
            if (s % 5 == 0)
                platform_learner_add_reading(learner, time_s * NSEC_PER_SEC,
                                             (uint64_t)(thesis_points[i].ipmi_watts * 1e6), WATT);
        }
    estimate = platform_learner_estimate(learner);
    platform_learner_free(learner);
    assert_int_equal(estimate.state, STATIC_LEARNED);
    assert_float_equal(estimate.static_watts, 177.8, 0.05 * 177.8);
    assert_float_equal(estimate.slope, 1.334, 0.05 * 1.334);
    print_message("a = %.1f +- %.1f W, b = %.3f +- %.3f\n", estimate.static_watts,
                  estimate.static_sigma, estimate.slope, estimate.slope_sigma);
}

static void test_disks(void **state)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct metered_machine machine = typical_machine;
        struct platform_estimate estimate;

        machine.random.state = seed;
        machine.io_max = 2e9;
        machine.io_joules_per_byte = 2e-8;
        machine.delay_s = 8;
        machine.update_s = 3;
        estimate = learn(&machine, 30 * MINUTES, 5);
        assert_int_equal(estimate.state, STATIC_LEARNED);
        assert_float_equal(estimate.slope, 1.334, 0.05 * 1.334);
        assert_float_equal(estimate.static_watts, 177.8, 0.05 * 177.8);
        assert_float_equal(estimate.io_joules_per_byte, 2e-8, 0.1 * 2e-8);
    }
}

/* Disks that are busy but cost nothing are charged next to nothing: 1 W at 1 GB/s. */
static void test_disks_that_cost_nothing(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct metered_machine machine = typical_machine;

        machine.random.state = seed;
        machine.io_max = 2e9;
        assert_float_equal(learn(&machine, 30 * MINUTES, 5).io_joules_per_byte, 0, 1e-9);
    }
}

/* Too little of it to tell its cost: it has none, rather than any. */
static void test_little_io(void **state)
{
    struct metered_machine machine = typical_machine;

    machine.io_max = 1e5;
    assert_float_equal(learn(&machine, 30 * MINUTES, 5).io_joules_per_byte, 0, 1e-9);
}

static void test_outliers(void **state)
{
    struct metered_machine machine = typical_machine;

    machine.outliers = 0.05;
    machine.delay_s = 5;
    check_machine(&machine, 60, 0.05);
}

/* What it shows does not depend on this machine enough. */
static void test_another_machine_on_the_meter(void **state)
{
    struct metered_machine machine = typical_machine;

    machine.other_watts = 600;
    assert_int_equal(learn(&machine, 30 * MINUTES, 5).state, STATIC_NOT_IDENTIFIABLE);
}

static void test_constant_load(void **state)
{
    struct metered_machine machine = typical_machine;
    struct platform_estimate estimate;

    machine.rapl_min = 150;
    machine.rapl_max = 155;
    estimate = learn(&machine, 30 * MINUTES, 5);
    assert_int_equal(estimate.state, STATIC_NOT_IDENTIFIABLE);
    assert_false(estimate.known);
    assert_float_equal(estimate.slope, 0, 0);
}

/* What was learned stays while the load says nothing new, and with it the expectation. */
static void test_load_becomes_constant(void **state)
{
    struct metered_machine machine = typical_machine;
    struct platform_learner *learner;
    struct platform_estimate before, after;
    double watts;

    assert_int_equal(platform_learner_new(&learner), 0);
    run_seconds(learner, &machine, 30 * MINUTES, 5);
    before = platform_learner_estimate(learner);
    machine.rapl_min = machine.rapl_max = 140;
    run_seconds(learner, &machine, 180 * MINUTES, 5);
    after = platform_learner_estimate(learner);
    assert_int_equal(after.state, STATIC_NOT_IDENTIFIABLE);
    assert_true(after.known);
    assert_float_equal(after.slope, before.slope, 0.02 * before.slope);
    assert_true(
        platform_learner_expect(learner, (START_S + machine.time_s) * NSEC_PER_SEC, &watts));
    assert_float_equal(watts, 177.8 + 1.334 * 140, 5);
    platform_learner_free(learner);
}

/* Nothing is said too early, nor of a past that is not known. */
static void test_beginning(void **state)
{
    struct metered_machine machine = typical_machine;
    struct platform_learner *learner;
    double watts;

    assert_int_equal(platform_learner_new(&learner), 0);
    assert_int_equal(platform_learner_estimate(learner).state, STATIC_LEARNING);
    assert_false(platform_learner_expect(learner, START_S * NSEC_PER_SEC, &watts));
    run_seconds(learner, &machine, 100, 5);
    assert_int_equal(platform_learner_estimate(learner).state, STATIC_LEARNING);
    assert_false(platform_learner_estimate(learner).known);
    run_seconds(learner, &machine, 20 * MINUTES, 5);
    assert_true(
        platform_learner_expect(learner, (START_S + machine.time_s) * NSEC_PER_SEC, &watts));
    assert_false(platform_learner_expect(learner, START_S * NSEC_PER_SEC, &watts));
    assert_false(
        platform_learner_expect(learner, (START_S + machine.time_s + 1) * NSEC_PER_SEC, &watts));
    platform_learner_free(learner);
}

/* A pause in the loads is not guessed at: its readings teach nothing, those around it do. */
static void test_pause(void **state)
{
    struct metered_machine machine = typical_machine;
    struct platform_learner *learner;
    struct platform_estimate estimate;

    assert_int_equal(platform_learner_new(&learner), 0);
    run_seconds(learner, &machine, 10 * MINUTES, 5);
    for (unsigned i = 0; i < 100; i++)
        platform_learner_add_reading(learner, (START_S + machine.time_s + i) * NSEC_PER_SEC,
                                     (50 + i) * WATT, WATT);
    machine.time_s += 1000;
    run_seconds(learner, &machine, 20 * MINUTES, 5);
    estimate = platform_learner_estimate(learner);
    assert_int_equal(estimate.state, STATIC_LEARNED);
    assert_float_equal(estimate.slope, 1.334, 0.05 * 1.334);
    platform_learner_free(learner);
}

/* Intervals of 100 ms and of a minute are as good as those of a second, the load being steady. */
static void test_intervals(void **state)
{
    static const uint64_t intervals_ns[] = {NSEC_PER_SEC / 10, NSEC_PER_SEC, 60 * NSEC_PER_SEC};

    for (size_t i = 0; i < ELEMENTS(intervals_ns); i++) {
        struct platform_learner *learner;
        uint64_t time_ns = START_S * NSEC_PER_SEC;

        assert_int_equal(platform_learner_new(&learner), 0);
        for (unsigned minute = 0; minute < 60; minute++) {
            const struct platform_load load = {.base = 100 + minute % 7 * 20};

            for (uint64_t ns = 0; ns < 60 * NSEC_PER_SEC; ns += intervals_ns[i])
                platform_learner_add_load(learner, time_ns += intervals_ns[i], intervals_ns[i],
                                          &load);
            platform_learner_add_reading(learner, time_ns,
                                         (uint64_t)(100 * WATT + load.base * 1.5e6), WATT);
        }
        assert_int_equal(platform_learner_estimate(learner).state, STATIC_LEARNED);
        assert_float_equal(platform_learner_estimate(learner).slope, 1.5, 0.01);
        platform_learner_free(learner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meters),
        cmocka_unit_test(test_delay_is_found),
        cmocka_unit_test(test_thesis),
        cmocka_unit_test(test_disks),
        cmocka_unit_test(test_disks_that_cost_nothing),
        cmocka_unit_test(test_little_io),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_another_machine_on_the_meter),
        cmocka_unit_test(test_constant_load),
        cmocka_unit_test(test_load_becomes_constant),
        cmocka_unit_test(test_beginning),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_intervals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
