/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/macros.h"

/* A meter that fails is asked half as often each time, but at least that often. */
#define INTERVAL_MAX_NS (300 * NSEC_PER_SEC)
#define TIMER_ACCURACY_USEC 10000

static const char *const state_names[] = {
    [METER_WAITING] = "waiting",
    [METER_OK] = "ok",
    [METER_ABSURD] = "absurd",
    [METER_INACTIVE] = "inactive",
    [METER_BUSY] = "busy",
    [METER_MALFORMED] = "malformed",
    [METER_SILENT] = "silent",
    [METER_ABSENT] = "absent",
    [METER_UNAUTHORISED] = "unauthorised",
    [METER_UNTRUSTED] = "untrusted",
};
_Static_assert(ARRAY_SIZE(state_names) == METER_STATES, "every state of a meter has a word");

const char *meter_state_to_string(enum meter_state state)
{
    assert(state < METER_STATES && state_names[state]);
    return state_names[state];
}

const struct meter_code *meter_find_code(const struct meter_code *codes, long code)
{
    while (codes->code != code && codes->code != METER_CODE_OTHER)
        codes++;
    return codes;
}

enum meter_state meter_state_of_errno(int error)
{
    static const struct meter_code errors[] = {
        {EACCES, METER_UNAUTHORISED, NULL},
        {EPERM, METER_UNAUTHORISED, NULL},
        {EINVAL, METER_MALFORMED, NULL},
        {ERANGE, METER_MALFORMED, NULL},
        {EAGAIN, METER_BUSY, NULL},
        {EBUSY, METER_BUSY, NULL},
        {EIO, METER_BUSY, NULL},
        {ETIMEDOUT, METER_BUSY, NULL},
        {METER_CODE_OTHER, METER_ABSENT, NULL},
    };

    return meter_find_code(errors, abs(error))->state;
}

uint64_t meter_age_ns(const struct meter *meter, uint64_t time_ns)
{
    uint64_t last_ns = meter->status.last.time_ns;

    if (last_ns == 0)
        return UINT64_MAX;
    return time_ns > last_ns ? time_ns - last_ns : 0;
}

static void set_timer(struct meter *meter, uint64_t delay_ns)
{
    sd_event_source_set_time_relative(meter->timer, delay_ns / NSEC_PER_USEC);
    sd_event_source_set_enabled(meter->timer, SD_EVENT_ONESHOT);
}

static uint64_t next_delay_ns(const struct meter *meter)
{
    uint64_t max_ns = meter->interval_ns > INTERVAL_MAX_NS ? meter->interval_ns : INTERVAL_MAX_NS;
    uint64_t delay_ns = meter->interval_ns;

    /* BMCs lock an account whose password is tried too often. */
    if (meter->status.state == METER_UNAUTHORISED)
        return max_ns;
    for (unsigned i = 1; i < meter->status.failures && delay_ns < max_ns; i++)
        delay_ns *= 2;
    return delay_ns < max_ns ? delay_ns : max_ns;
}

static void log_state(struct meter *meter)
{
    const struct meter_status *status = &meter->status;
    bool lasting = status->failures != 1 || meter->logged == METER_WAITING;

    if (status->state == meter->logged || !lasting)
        return;
    if (status->state == METER_OK)
        log_info("meter answers", F_STRING("meter", meter->ops->name),
                 F_UINT("watts", status->last.power_uw / 1000000));
    else
        log_warning("meter gives no reading", F_STRING("meter", meter->ops->name),
                    F_STRING("state", meter_state_to_string(status->state)),
                    F_STRING("detail", status->detail));
    meter->logged = status->state;
}

static void end_question(struct meter *meter, enum meter_state state)
{
    meter->status.state = state;
    meter->status.asked[state]++;
    meter->asked_ns = 0;
    set_timer(meter, next_delay_ns(meter));
    log_state(meter);
}

void meter_answer(struct meter *meter, const struct meter_reading *reading)
{
    struct meter_status *status = &meter->status;
    char detail[64];

    if (reading->power_uw == 0 || reading->power_uw > METER_POWER_MAX_W * UINT64_C(1000000)) {
        snprintf(detail, sizeof(detail), "%ju W", (uintmax_t)(reading->power_uw / 1000000));
        meter_fail(meter, METER_ABSURD, detail);
        return;
    }
    status->last = *reading;
    status->last.time_ns = meter->asked_ns + (now_ns() - meter->asked_ns) / 2;
    status->failures = 0;
    status->detail[0] = '\0';
    end_question(meter, METER_OK);
}

void meter_fail(struct meter *meter, enum meter_state state, const char *detail)
{
    struct meter_status *status = &meter->status;

    assert(state != METER_OK && state != METER_WAITING);
    snprintf(status->detail, sizeof(status->detail), "%s", detail);
    for (char *p = status->detail; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    status->failures++;
    end_question(meter, state);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct meter *meter = userdata;

    if (meter->asked_ns) {
        meter->ops->cancel(meter);
        meter_fail(meter, METER_SILENT, "no answer in time");
        return 0;
    }
    meter->asked_ns = now_ns();
    set_timer(meter, meter->timeout_ns);
    meter->ops->ask(meter);
    return 0;
}

int meter_start(struct meter *meter, sd_event *event)
{
    return sd_event_add_time_relative(event, &meter->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_USEC,
                                      on_timer, meter);
}

struct meter *meter_free(struct meter *meter)
{
    if (!meter)
        return NULL;
    if (meter->asked_ns)
        meter->ops->cancel(meter);
    sd_event_source_disable_unref(meter->timer);
    meter->ops->free(meter);
    return NULL;
}
