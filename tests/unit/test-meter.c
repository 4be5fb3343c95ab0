/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a meter is asked, whatever its kind. */

#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "meter/meter.h"
#include "util/clock.h"

#define WATT UINT64_C(1000000)

/* A meter that does as it is told. */
struct puppet {
    struct meter meter;
    enum meter_state answer; /* METER_WAITING: none */
    uint64_t power_uw;
    uint64_t start_ns;
    unsigned n_asked;
    uint64_t asked_ns[16];
    unsigned n_cancelled;
    bool freed;
};

static void puppet_ask(struct meter *meter)
{
    struct puppet *puppet = (struct puppet *)meter;

    assert_true(puppet->n_asked < ELEMENTS(puppet->asked_ns));
    puppet->asked_ns[puppet->n_asked++] = now_ns();
    if (puppet->answer == METER_OK)
        meter_answer(meter,
                     &(struct meter_reading){.power_uw = puppet->power_uw, .resolution_uw = WATT});
    else if (puppet->answer != METER_WAITING)
        meter_fail(meter, puppet->answer, "as \033told\n");
}

static void puppet_cancel(struct meter *meter)
{
    ((struct puppet *)meter)->n_cancelled++;
}

static void puppet_free(struct meter *meter)
{
    ((struct puppet *)meter)->freed = true;
}

static const struct meter_ops puppet_ops = {
    .name = "puppet",
    .ask = puppet_ask,
    .cancel = puppet_cancel,
    .free = puppet_free,
};

static sd_event *start(struct puppet *puppet)
{
    sd_event *event;

    puppet->meter = (struct meter){
        .ops = &puppet_ops, .interval_ns = 20 * NSEC_PER_MSEC, .timeout_ns = 30 * NSEC_PER_MSEC};
    assert_int_equal(sd_event_new(&event), 0);
    puppet->start_ns = now_ns();
    assert_int_equal(meter_start(&puppet->meter, event), 0);
    return event;
}

/* A delay counts from when the loop woke up, which is before the question it woke up for, but not
   before that one was due; timers are in whole microseconds. */
static void assert_not_asked_before(const struct puppet *puppet, unsigned i, unsigned ms)
{
    assert_true(puppet->asked_ns[i] + NSEC_PER_USEC >= puppet->start_ns + ms * NSEC_PER_MSEC);
}

static void run_until_asked(struct puppet *puppet, sd_event *event, unsigned n)
{
    while (puppet->n_asked < n)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
}

static void stop(struct puppet *puppet, sd_event *event)
{
    meter_free(&puppet->meter);
    assert_true(puppet->freed);
    sd_event_unref(event);
}

static void test_readings(void **state)
{
    struct puppet puppet = {.answer = METER_OK, .power_uw = 291 * WATT};
    const struct meter_status *status = &puppet.meter.status;
    uint64_t before_ns = now_ns();
    sd_event *event = start(&puppet);

    assert_true(meter_age_ns(&puppet.meter, now_ns()) == UINT64_MAX);
    run_until_asked(&puppet, event, 3);
    assert_int_equal(status->state, METER_OK);
    assert_int_equal(status->asked[METER_OK], 3);
    assert_int_equal(status->failures, 0);
    assert_true(status->last.power_uw == 291 * WATT);
    assert_in_range(status->last.time_ns, before_ns, now_ns());
    assert_true(meter_age_ns(&puppet.meter, status->last.time_ns + 5) == 5);
    assert_true(meter_age_ns(&puppet.meter, status->last.time_ns - 5) == 0);
    for (unsigned i = 1; i < 3; i++)
        assert_not_asked_before(&puppet, i, i * 20);
    stop(&puppet, event);
}

/* What no machine draws is no reading: the last good one stays. */
static void test_absurd(void **state)
{
    static const uint64_t absurd_w[] = {0, METER_POWER_MAX_W + 1, 65535, UINT64_MAX / WATT};
    struct puppet puppet = {.answer = METER_OK, .power_uw = 291 * WATT};
    const struct meter_status *status = &puppet.meter.status;
    sd_event *event = start(&puppet);

    run_until_asked(&puppet, event, 1);
    for (unsigned i = 0; i < ELEMENTS(absurd_w); i++) {
        puppet.power_uw = absurd_w[i] * WATT;
        run_until_asked(&puppet, event, i + 2);
        assert_int_equal(status->state, METER_ABSURD);
        assert_true(status->last.power_uw == 291 * WATT);
    }
    assert_int_equal(status->asked[METER_ABSURD], ELEMENTS(absurd_w));
    stop(&puppet, event);
}

/* The meter is given up, and asked again later: after 20, 20, 40, 80 ms. */
static void test_silent(void **state)
{
    struct puppet puppet = {.answer = METER_WAITING};
    const struct meter_status *status = &puppet.meter.status;
    sd_event *event = start(&puppet);

    run_until_asked(&puppet, event, 5);
    assert_int_equal(puppet.n_cancelled, 4);
    assert_int_equal(status->state, METER_SILENT);
    assert_int_equal(status->failures, 4);
    /* 30 ms of patience each, then twice as long as the last time. */
    assert_not_asked_before(&puppet, 1, 30 + 20);
    assert_not_asked_before(&puppet, 2, 2 * 30 + 20 + 40);
    assert_not_asked_before(&puppet, 3, 3 * 30 + 20 + 40 + 80);
    assert_not_asked_before(&puppet, 4, 4 * 30 + 20 + 40 + 80 + 160);
    /* The open question is given up as well. */
    stop(&puppet, event);
    assert_int_equal(puppet.n_cancelled, 5);
}

static void test_comes_back(void **state)
{
    struct puppet puppet = {.answer = METER_BUSY};
    const struct meter_status *status = &puppet.meter.status;
    sd_event *event = start(&puppet);

    run_until_asked(&puppet, event, 2);
    assert_int_equal(status->state, METER_BUSY);
    assert_string_equal(status->detail, "as ?told?");
    assert_true(status->last.time_ns == 0);
    puppet.answer = METER_OK;
    puppet.power_uw = METER_POWER_MAX_W * WATT;
    run_until_asked(&puppet, event, 3);
    assert_int_equal(status->state, METER_OK);
    assert_string_equal(status->detail, "");
    assert_int_equal(status->failures, 0);
    assert_true(status->last.time_ns > 0);
    stop(&puppet, event);
}

static void test_errors(void **state)
{
    static const struct {
        int error;
        enum meter_state expected;
    } cases[] = {
        {EACCES, METER_UNAUTHORISED}, {-EPERM, METER_UNAUTHORISED}, {-EINVAL, METER_MALFORMED},
        {-ERANGE, METER_MALFORMED},   {-EIO, METER_BUSY},           {-EAGAIN, METER_BUSY},
        {-ETIMEDOUT, METER_BUSY},     {-ENOENT, METER_ABSENT},      {-ENODEV, METER_ABSENT},
        {-ENXIO, METER_ABSENT},       {-E2BIG, METER_ABSENT},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++)
        assert_int_equal(meter_state_of_errno(cases[i].error), cases[i].expected);
}

static void test_every_state_has_a_word(void **state)
{
    for (int i = 0; i < METER_STATES; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(meter_state_to_string(i), meter_state_to_string(j));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readings), cmocka_unit_test(test_absurd),
        cmocka_unit_test(test_silent),   cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_errors),   cmocka_unit_test(test_every_state_has_a_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
