/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>

#include "metered_machine.h"
#include "platform/platform.h"
#include "util/clock.h"

#define MINUTES 60
#define START_S 1000
#define POLL_S 5

/* What becomes of the readings of one of two meters. */
enum fault {
    NONE,
    SILENT,  /* no more of them */
    FROZEN,  /* the same for ever */
    ZERO,    /* 0 W */
    HIGHEST, /* 65535 W */
    LYING,   /* half of the truth */
    SHARED,  /* another machine's 300 W come on top */
};

struct run {
    struct platform *platform;
    struct metered_machine machine;
    size_t n; /* meters, that show the same but for their faults */
    enum fault faults[2];
    struct platform_reading readings[2];
    uint64_t energy_uj;
    double true_joules;
    unsigned silent_s;                  /* seconds without an energy */
    double highest_watts, lowest_watts; /* of the seconds with one, over the truth */
};

static double faulty(enum fault fault, double shown, const struct platform_reading *last)
{
    switch (fault) {
    case FROZEN:
        return (double)last->power_uw / 1e6;
    case ZERO:
        return 0;
    case HIGHEST:
        return 65535;
    case LYING:
        return shown / 2;
    case SHARED:
        return shown + 300;
    default:
        return shown;
    }
}

static void read_meters(struct run *run, uint64_t time_ns, double shown)
{
    for (size_t i = 0; i < run->n; i++) {
        struct platform_reading *reading = &run->readings[i];

        if (run->faults[i] != SILENT)
            *reading = (struct platform_reading){
                .time_ns = time_ns,
                .power_uw = (uint64_t)(faulty(run->faults[i], shown, reading) * 1e6),
                .resolution_uw = 1000000,
            };
    }
}

static struct sample_zone run_second(struct run *run)
{
    uint64_t end_ns = (START_S + run->machine.time_s + 1) * NSEC_PER_SEC;
    double shown = metered_machine_step(&run->machine),
           watts = metered_machine_watts(&run->machine);
    const struct platform_interval interval = {
        .end_ns = end_ns,
        .duration_ns = NSEC_PER_SEC,
        .load = {.base = run->machine.rapl, .io = run->machine.io},
        .is_power = true,
    };
    struct sample_zone zone;

    /* The first minute of a meter that is late is not known. */
    if (run->machine.time_s % POLL_S == 0 && run->machine.time_s > 60)
        read_meters(run, end_ns - NSEC_PER_SEC / 10, shown);
    zone = platform_advance(run->platform, &interval, run->readings);
    if (!zone.valid) {
        run->silent_s++;
        assert_int_equal(zone.energy_uj, 0);
        return zone;
    }
    assert_int_equal(zone.duration_ns, NSEC_PER_SEC);
    run->energy_uj += zone.energy_uj;
    run->true_joules += watts;
    run->highest_watts = fmax(run->highest_watts, (double)zone.energy_uj / 1e6 / watts);
    run->lowest_watts = fmin(run->lowest_watts, (double)zone.energy_uj / 1e6 / watts);
    return zone;
}

static void run_seconds(struct run *run, unsigned seconds)
{
    run->silent_s = 0;
    run->energy_uj = 0;
    run->true_joules = run->highest_watts = 0;
    run->lowest_watts = INFINITY;
    for (unsigned i = 0; i < seconds; i++)
        run_second(run);
}

/* The meters' relation is learned. */
static void begin(struct run *run, const struct metered_machine *machine, size_t n)
{
    *run = (struct run){.machine = *machine, .n = n};
    run->machine.random.state = 1;
    assert_int_equal(platform_new(&run->platform, n), 0);
    run_seconds(run, 40 * MINUTES);
    assert_non_null(platform_used(run->platform));
}

static enum platform_trust trust(const struct run *run, size_t meter)
{
    return platform_get_meter(run->platform, meter)->trust;
}

static void check_sum(const struct run *run, double tolerance)
{
    assert_float_equal((double)run->energy_uj / 1e6, run->true_joules,
                       tolerance * run->true_joules);
}

/* The sum of ten minutes is the truth's, with meters as they come. */
static void test_sum_follows_the_meter(void **state)
{
    static const struct {
        unsigned delay_s, update_s;
    } meters[] = {{0, 1}, {20, 7}, {20, 30}};

    for (size_t m = 0; m < ELEMENTS(meters); m++) {
        struct metered_machine machine = typical_machine;
        struct run run;

        machine.delay_s = meters[m].delay_s;
        machine.update_s = meters[m].update_s;
        machine.io_max = 1e9;
        machine.io_joules_per_byte = 2e-8;
        begin(&run, &machine, 1);
        run_seconds(&run, 10 * MINUTES);
        assert_int_equal(run.silent_s, 0);
        check_sum(&run, 0.02);
        platform_free(run.platform);
    }
}

/* A machine that draws a little more than it did: the relation is late, the sum is not. */
static void test_sum_follows_a_change(void **state)
{
    struct run run;

    begin(&run, &typical_machine, 1);
    run.machine.static_watts += 15;
    run_seconds(&run, 60 * MINUTES);
    assert_int_equal(run.silent_s, 0);
    check_sum(&run, 0.005);
    platform_free(run.platform);
}

/* Until something is learned, and where nothing can be, there is no energy. */
static void test_nothing_learned(void **state)
{
    struct metered_machine machine = typical_machine;
    struct run run = {.machine = typical_machine, .n = 1};

    assert_int_equal(platform_new(&run.platform, 1), 0);
    run_seconds(&run, 40);
    assert_int_equal(trust(&run, 0), PLATFORM_UNKNOWN);
    run_seconds(&run, 60);
    assert_int_equal(run.silent_s, 60);
    assert_null(platform_used(run.platform));
    assert_int_equal(trust(&run, 0), PLATFORM_UNKNOWN);
    platform_free(run.platform);
    machine.rapl_min = machine.rapl_max = 120;
    run = (struct run){.machine = machine, .n = 1};
    assert_int_equal(platform_new(&run.platform, 1), 0);
    run_seconds(&run, 60 * MINUTES);
    assert_int_equal(run.silent_s, 60 * MINUTES);
    assert_int_equal(platform_get_meter(run.platform, 0)->estimate.state, STATIC_NOT_IDENTIFIABLE);
    platform_free(run.platform);
}

/*
 * A meter goes wrong for an hour and comes back. The relation goes on for ten
 * minutes from the last reading that agreed, and is right meanwhile; then there is nothing.
 */
static void check_fault(enum fault fault, enum platform_trust expected)
{
    struct run run;

    begin(&run, &typical_machine, 1);
    run.faults[0] = fault;
    run_seconds(&run, 9 * MINUTES);
    assert_int_equal(trust(&run, 0), expected);
    assert_int_equal(run.silent_s, 0);
    check_sum(&run, 0.03);
    assert_true(run.highest_watts < 1.15 && run.lowest_watts > 0.85);
    run_seconds(&run, 50 * MINUTES);
    /* What is frozen agrees by chance now and then. */
    assert_in_range(run.silent_s, 40 * MINUTES, 50 * MINUTES);
    run.faults[0] = NONE;
    run_seconds(&run, 30 * MINUTES);
    assert_int_equal(trust(&run, 0), PLATFORM_TRUSTED);
    assert_true(run.silent_s < 30 * MINUTES);
    run_seconds(&run, 10 * MINUTES);
    assert_int_equal(run.silent_s, 0);
    check_sum(&run, 0.03);
    platform_free(run.platform);
}

static void test_silent(void **state)
{
    check_fault(SILENT, PLATFORM_SILENT);
}

static void test_frozen(void **state)
{
    check_fault(FROZEN, PLATFORM_FROZEN);
}

static void test_zero(void **state)
{
    check_fault(ZERO, PLATFORM_IMPLAUSIBLE);
}

static void test_highest(void **state)
{
    check_fault(HIGHEST, PLATFORM_FROZEN);
}

/* What lies evenly for long enough cannot be told from a machine that has changed: it is learned
   anew. Until then it is not followed. */
static void test_lying(void **state)
{
    struct run run;

    begin(&run, &typical_machine, 1);
    run.faults[0] = LYING;
    run_seconds(&run, 9 * MINUTES);
    assert_true(trust(&run, 0) == PLATFORM_DEVIATING || trust(&run, 0) == PLATFORM_IMPLAUSIBLE);
    assert_int_equal(run.silent_s, 0);
    check_sum(&run, 0.03);
    platform_free(run.platform);
}

/* A glitch is a glitch. */
static void test_outliers(void **state)
{
    struct metered_machine machine = typical_machine;
    struct run run;

    machine.outliers = 0.02;
    begin(&run, &machine, 1);
    run_seconds(&run, 10 * MINUTES);
    assert_int_equal(run.silent_s, 0);
    check_sum(&run, 0.05);
    assert_true(run.highest_watts < 1.2 && run.lowest_watts > 0.8);
    platform_free(run.platform);
}

/* The first meter is this machine's, the second another's as well; when the first falls silent,
   the second is used, with what was learned from it. */
static void test_two_meters(void **state)
{
    struct run run = {.machine = typical_machine, .n = 2, .faults = {NONE, SHARED}};

    run.machine.random.state = 3;
    assert_int_equal(platform_new(&run.platform, 2), 0);
    run_seconds(&run, 40 * MINUTES);
    run_seconds(&run, 10 * MINUTES);
    assert_ptr_equal(platform_used(run.platform), platform_get_meter(run.platform, 0));
    assert_int_equal(trust(&run, 0), PLATFORM_TRUSTED);
    assert_int_equal(trust(&run, 1), PLATFORM_CONTRADICTING);
    check_sum(&run, 0.01);
    run.faults[1] = NONE;
    run.faults[0] = SILENT;
    run_seconds(&run, 60 * MINUTES);
    assert_int_equal(trust(&run, 0), PLATFORM_SILENT);
    assert_int_equal(trust(&run, 1), PLATFORM_TRUSTED);
    assert_ptr_equal(platform_used(run.platform), platform_get_meter(run.platform, 1));
    run_seconds(&run, 10 * MINUTES);
    check_sum(&run, 0.03);
    platform_free(run.platform);
}

/* A meter whose other machine has a load of its own is never believed. */
static void test_another_machine(void **state)
{
    struct run run = {.machine = typical_machine, .n = 1};

    run.machine.other_watts = 600;
    run.machine.random.state = 2;
    assert_int_equal(platform_new(&run.platform, 1), 0);
    run_seconds(&run, 60 * MINUTES);
    assert_int_equal(run.silent_s, 60 * MINUTES);
    platform_free(run.platform);
}

static void test_names(void **state)
{
    assert_string_equal(platform_trust_to_string(PLATFORM_UNKNOWN), "unknown");
    assert_string_equal(platform_trust_to_string(PLATFORM_CONTRADICTING), "contradicting");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_follows_the_meter),
        cmocka_unit_test(test_sum_follows_a_change),
        cmocka_unit_test(test_nothing_learned),
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_highest),
        cmocka_unit_test(test_lying),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_two_meters),
        cmocka_unit_test(test_another_machine),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
