/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <math.h>

#include "baseline/calibration.h"
#include "util/clock.h"

#define WINDOWS 120

/* A host that idles at 40 W and draws 120 W at full load. */
struct host {
    double idle_watts;
    double busy_min, busy_max; /* of its background */
    int busy_every;            /* each so many-th window has a burst: 30 % load; 0: none */
    double noise;              /* of the power, relative, even */
    uint64_t quantum_uj;       /* of its counter */
    uint32_t random;
};

static double uniform(struct host *host)
{
    host->random = host->random * 1664525 + 1013904223; /* Numerical Recipes, chapter 7.1 */
    return (double)host->random / 4294967296.0;
}

static struct calibration calibrate(struct host host)
{
    struct calibration_window windows[WINDOWS];
    struct calibration calibration;
    double energy_uj = 0;
    uint64_t counter = 0;

    for (int i = 0; i < WINDOWS; i++) {
        double busy = host.busy_min + (host.busy_max - host.busy_min) * uniform(&host);
        double watts;
        uint64_t before = counter;

        if (host.busy_every && i % host.busy_every == 0)
            busy = 0.3;
        watts = (host.idle_watts + 80 * busy) * (1 + host.noise * (2 * uniform(&host) - 1));
        energy_uj += watts * 0.5e6;
        counter = host.quantum_uj ? (uint64_t)energy_uj / host.quantum_uj * host.quantum_uj
                                  : (uint64_t)energy_uj;
        windows[i] = (struct calibration_window){counter - before, NSEC_PER_SEC / 2, busy};
    }
    assert_int_equal(calibrate_zone(windows, WINDOWS, &calibration), 0);
    return calibration;
}

static void check_within(const struct calibration *calibration, double watts, double tolerance)
{
    assert_float_equal(calibration->power_uw / 1e6, watts, tolerance);
    /* The uncertainty is honest: three sigmas hold the truth. */
    assert_true(fabs(calibration->power_uw / 1e6 - watts) <=
                3 * calibration->uncertainty_uw / 1e6 + 1e-6);
}

static void test_idle_host(void **state)
{
    struct host host = {.idle_watts = 40, .busy_max = 0.004, .noise = 0.01};
    struct calibration calibration = calibrate(host);

    check_within(&calibration, 40, 0.4);
    assert_int_equal(calibration.flaws, 0);
    assert_int_equal(calibration.quiet, WINDOWS);
    assert_true(calibration.uncertainty_uw < 500000);
}

/* Bursts in every fifth window: left out, and the line they show takes off the background. */
static void test_bursts(void **state)
{
    struct host host = {.idle_watts = 40, .busy_max = 0.01, .busy_every = 5, .noise = 0.005};
    struct calibration calibration = calibrate(host);

    check_within(&calibration, 40, 0.4);
    assert_int_equal(calibration.flaws, 0);
    assert_int_equal(calibration.quiet, WINDOWS * 4 / 5);
}

static void test_small_load_is_taken_off(void **state)
{
    struct host host = {.idle_watts = 40, .busy_min = 0.01, .busy_max = 0.05, .noise = 0.005};
    struct calibration calibration = calibrate(host);

    check_within(&calibration, 40, 0.5);
    assert_true(calibration.load_uw > 1500000);
    assert_int_equal(calibration.flaws, 0);
}

static void test_busy_host(void **state)
{
    struct host host = {.idle_watts = 40, .busy_min = 0.2, .busy_max = 0.6, .noise = 0.005};
    struct calibration calibration = calibrate(host);

    assert_true(calibration.flaws & CALIBRATION_BUSY);
    assert_true(calibration.flaws & CALIBRATION_EXTRAPOLATED);
    assert_float_equal(calibration.busy, 0.4, 0.05);
    check_within(&calibration, 40, 8);
    assert_true(calibration.uncertainty_uw > 5000000);
}

/* Nothing tells what the constant load draws: it stays in, and the uncertainty says so. */
static void test_constantly_busy_host(void **state)
{
    struct host host = {.idle_watts = 40, .busy_min = 0.3, .busy_max = 0.3};
    struct calibration calibration = calibrate(host);

    assert_true(calibration.flaws & CALIBRATION_BUSY);
    assert_true(calibration.flaws & CALIBRATION_EXTRAPOLATED);
    check_within(&calibration, 64, 0.1);
    assert_true(calibration.uncertainty_uw > 24000000);
}

static void test_unsteady_host(void **state)
{
    struct host host = {.idle_watts = 40, .busy_max = 0.004, .noise = 0.3};

    assert_int_equal(calibrate(host).flaws, CALIBRATION_UNSTEADY);
}

/* A unit of 1 J on a zone of a few watts, and of half a watt: most windows show none or one. */
static void test_coarse_counter(void **state)
{
    static const double watts[] = {0.5, 3.3, 40};

    for (size_t i = 0; i < ELEMENTS(watts); i++) {
        struct host host = {.idle_watts = watts[i], .quantum_uj = 1000000};
        struct calibration calibration = calibrate(host);

        check_within(&calibration, watts[i], 0.1);
        assert_int_equal(calibration.flaws, 0);
    }
}

static void test_zone_without_power(void **state)
{
    struct host host = {.idle_watts = 0};
    struct calibration calibration = calibrate(host);

    assert_true(calibration.power_uw == 0);
    assert_true(calibration.uncertainty_uw == 0);
    assert_int_equal(calibration.flaws, 0);
}

static void test_number_of_windows(void **state)
{
    static const struct calibration_window windows[CALIBRATION_WINDOWS_MAX + 1];
    struct calibration calibration;

    assert_int_equal(calibrate_zone(windows, CALIBRATION_WINDOWS_MIN - 1, &calibration), -EINVAL);
    assert_int_equal(calibrate_zone(windows, CALIBRATION_WINDOWS_MAX + 1, &calibration), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_host),
        cmocka_unit_test(test_bursts),
        cmocka_unit_test(test_small_load_is_taken_off),
        cmocka_unit_test(test_busy_host),
        cmocka_unit_test(test_constantly_busy_host),
        cmocka_unit_test(test_unsteady_host),
        cmocka_unit_test(test_coarse_counter),
        cmocka_unit_test(test_zone_without_power),
        cmocka_unit_test(test_number_of_windows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
