/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdlib.h>

#include "requests/work_price.h"
#include "util/clock.h"

#define MS NSEC_PER_MSEC
#define FACTOR(uj, work) (((uint64_t)(uj) << WORK_FACTOR_BITS) / (work))

static int new_price(void **state)
{
    *state = calloc(1, sizeof(struct work_price));
    return *state ? 0 : -1;
}

static int free_price(void **state)
{
    free(*state);
    return 0;
}

/* Ticks with the totals at their times. */
struct series {
    uint64_t time_ms, work, energy_uj, delay_ms;
    uint64_t charged_uj; /* expected after the tick */
    int64_t owed_uj;
    uint64_t unattributed_uj;
};

static void run(struct work_price *price, const struct series *series, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct series *tick = &series[i];

        work_price_tick(price, tick->time_ms * MS, tick->work, tick->energy_uj,
                        tick->delay_ms * MS);
        if (work_price_charged_uj(price) != tick->charged_uj || price->owed_uj != tick->owed_uj ||
            price->unattributed_uj != tick->unattributed_uj)
            fail_msg("tick %zu: charged %ju owed %jd unattributed %ju", i,
                     (uintmax_t)work_price_charged_uj(price), (intmax_t)price->owed_uj,
                     (uintmax_t)price->unattributed_uj);
    }
}

/* 5 uJ for each unit of work, known at once. */
static void test_steady(void **state)
{
    static const struct series series[] = {
        {1000, 0, 100, 0, 0, 0, 0},
        {2000, 100, 600, 0, 0, 0, 500}, /* work before the factor was known: unattributed */
        {3000, 200, 1100, 0, 500, 0, 500},
        {4000, 300, 1600, 0, 1000, 0, 500},
    };
    struct work_price *price = *state;

    run(price, series, ELEMENTS(series));
    assert_int_equal(price->factor, FACTOR(5, 1));
}

/* A late counter is that of the earlier work: the factor is right, whatever the load does. */
static void test_delay(void **state)
{
    static const struct series series[] = {
        {1000, 0, 100, 1000, 0, 0, 0},    /* before the first tick: not ours */
        {2000, 1000, 100, 1000, 0, 0, 0}, /* of 1000 ms: the beginning */
        {3000, 1010, 5100, 1000, 0, 0, 5000},
        {4000, 3010, 5150, 1000, 10000, 50, 5000}, /* work of 2000..3000: without a factor */
        {5000, 3010, 15150, 1000, 10000, 50, 5000},
    };
    struct work_price *price = *state;

    run(price, series, 3);
    assert_int_equal(price->factor, FACTOR(5, 1));
    run(price, series + 3, 2);
    assert_int_equal(price->rate, FACTOR(5, 1));
}

/* Without energy the factor holds; the truth that comes is that of the whole time. */
static void test_standing_counter(void **state)
{
    static const struct series standing[] = {
        {1000, 0, 0, 0, 0, 0, 0},          {2000, 100, 500, 0, 0, 0, 500},
        {3000, 200, 500, 0, 500, 0, 500},  {4000, 300, 500, 0, 1000, 0, 500},
        {5000, 400, 500, 0, 1500, 0, 500},
    };
    static const struct series comes[] = {
        {6000, 500, 2900, 0, 2000, 400, 500}, /* 6 uJ a unit: 400 more than was charged */
    };
    struct work_price *price = *state;

    run(price, standing, ELEMENTS(standing));
    assert_int_equal(price->factor, FACTOR(5, 1));
    run(price, comes, ELEMENTS(comes));
    assert_int_equal(price->rate, FACTOR(6, 1));
    assert_int_equal(price->factor, FACTOR(9, 1)); /* by half at most */
    work_price_tick(price, 7000 * MS, 600, 3500, 0);
    assert_int_equal(work_price_charged_uj(price), 2900);
    assert_int_equal(price->owed_uj, 100);
    assert_int_equal(price->factor, FACTOR(7, 1));
    work_price_tick(price, 8000 * MS, 700, 4100, 0);
    assert_int_equal(price->owed_uj, 0);
}

/* Too much was charged: the next work pays less. */
static void test_overdraft(void **state)
{
    static const struct series series[] = {
        {1000, 0, 0, 0, 0, 0, 0},
        {2000, 100, 1000, 0, 0, 0, 1000},
        {3000, 200, 1800, 0, 1000, -200, 1000}, /* 8 instead of 10 */
    };
    struct work_price *price = *state;

    run(price, series, ELEMENTS(series));
    assert_int_equal(price->factor, FACTOR(6, 1));
    work_price_tick(price, 4000 * MS, 300, 2600, 0);
    assert_int_equal(price->owed_uj, 0);
    assert_int_equal(price->factor, FACTOR(8, 1));
}

/* Ticks that come late, or twice at one time, change nothing in the sum. */
static void test_late_ticks(void **state)
{
    static const struct series series[] = {
        {1000, 0, 0, 0, 0, 0, 0},           {2000, 100, 500, 0, 0, 0, 500},
        {2000, 150, 700, 0, 0, 0, 500}, /* not taken */
        {9500, 850, 4250, 0, 3750, 0, 500}, {9501, 851, 4255, 0, 3755, 0, 500},
    };

    run(*state, series, ELEMENTS(series));
}

static void test_idle(void **state)
{
    struct work_price *price = *state;
    static const struct series series[] = {
        {1000, 0, 0, 0, 0, 0, 0},
        {2000, 100, 150, 0, 0, 0, 150},       /* 100 idle, 50 before there was a factor */
        {3000, 120, 240, 0, 10, 0, 150},      /* below the idle power: held back */
        {4000, 220, 360, 0, 60, -50, 350},    /* 10 of these two seconds are active */
        {5000, 220, 460, 0, 60, -50, 350},    /* idle alone: held back */
        {70000, 220, 6960, 0, 60, -50, 6950}, /* settled after a minute */
    };

    price->idle_uw = 100;
    run(price, series, ELEMENTS(series));
}

/* Energy without any work is unattributed. */
static void test_no_work(void **state)
{
    static const struct series series[] = {
        {1000, 0, 0, 0, 0, 0, 0},
        {2000, 100, 500, 0, 0, 0, 500},
        {3000, 100, 600, 0, 0, 0, 600},
        {4000, 200, 1100, 0, 500, 0, 600},
    };

    run(*state, series, ELEMENTS(series));
}

/* After a reset the counter is anchored anew; work is charged on at the last factor. */
static void test_reset(void **state)
{
    struct work_price *price = *state;

    work_price_tick(price, 1000 * MS, 0, 0, 0);
    work_price_tick(price, 2000 * MS, 100, 500, 0);
    work_price_forget_counter(price);
    work_price_tick(price, 3000 * MS, 200, 500, 0);
    assert_int_equal(price->factor, FACTOR(5, 1));
    work_price_tick(price, 4000 * MS, 300, 1000, 0);
    assert_int_equal(price->owed_uj, 0);
    assert_int_equal(work_price_charged_uj(price), 1000);
}

/* Work that wraps, and numbers as large as they come. */
static void test_extremes(void **state)
{
    struct work_price *price = *state;

    work_price_tick(price, 1000 * MS, UINT64_MAX - 49, 0, 0);
    work_price_tick(price, 2000 * MS, 50, 500, 0);
    assert_int_equal(price->factor, FACTOR(5, 1));
    work_price_tick(price, 3000 * MS, 51, 600, 60000 * MS); /* a delay beyond the start */
    work_price_tick(price, 4000 * MS, 52, UINT64_MAX / 2, 0);
    assert_true(price->factor > 0);
}

/*
 * Any load, any delay, a counter in steps: what was charged follows the counter. The VM draws
 * 7 uJ per unit in the first half and 9 in the second, read by a tick of 100 ms.
 */
static void test_sum_follows(void **state)
{
    struct work_price *price = *state;
    const uint64_t delay_ticks = 10, step_ticks = 3;
    uint64_t work[3000] = {0}, energy[3000] = {0}, spent_uj;
    unsigned seed = 1;

    for (size_t i = 1; i < ELEMENTS(work); i++) {
        uint64_t done = 1000 + (uint64_t)rand_r(&seed) % 9000;

        work[i] = work[i - 1] + done;
        energy[i] = energy[i - 1] + done * (i < 1500 ? 7 : 9);
    }
    for (size_t i = 0; i < ELEMENTS(work); i++) {
        size_t seen = i < delay_ticks ? 0 : i - delay_ticks;

        work_price_tick(price, (i + 100) * 100 * MS, work[i], energy[seen - seen % step_ticks],
                        delay_ticks * 100 * MS);
        /* Nowhere a step to zero, nor beyond half the true rates. */
        if (i > 2 * delay_ticks) {
            assert_true(price->factor > FACTOR(7, 1) / 3);
            assert_true(price->factor < FACTOR(9, 1) * 2);
        }
    }
    spent_uj = work_price_charged_uj(price) + price->unattributed_uj;
    assert_true(labs((long)(spent_uj - energy[2999])) < (long)energy[2999] / 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_steady, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_delay, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_standing_counter, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_overdraft, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_late_ticks, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_idle, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_no_work, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_reset, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_extremes, new_price, free_price),
        cmocka_unit_test_setup_teardown(test_sum_follows, new_price, free_price),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
