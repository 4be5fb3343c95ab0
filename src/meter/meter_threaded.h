/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Meters whose reading waits: a file of sysfs behind which firmware is asked, a
 * library that resolves names. Each has a thread of its own.
 *
 *     event loop --(question)--> thread: read() --(outcome, eventfd)--> event loop
 *
 * A thread that hangs holds up neither the loop nor the daemon's end: its question
 * times out, and the next one is asked when the thread comes back.
 */

#include "meter/meter.h"

/** How a question ended. */
struct meter_outcome {
    enum meter_state state;
    struct meter_reading reading;  /* with METER_OK: all but time_ns */
    char detail[METER_DETAIL_MAX]; /* otherwise */
};

/** What a meter of this kind must do, in its thread. */
struct meter_reader_ops {
    const char *name;
    void (*read)(void *reader, struct meter_outcome *ret); /* *ret is zeroed; may wait */
    void (*free)(void *reader);
};

/**
 * A meter that has yet to be started.
 * @param reader  ops->read() is called from one thread only; ops->free() from any, later than
 *                meter_free() if a read hangs. Taken over on success only.
 * @return 0 or a negative errno
 */
int meter_threaded_new(struct meter **ret, sd_event *event, const struct meter_reader_ops *ops,
                       void *reader, uint64_t interval_ns, uint64_t timeout_ns);

/** Sets the outcome of a failure. */
__attribute__((format(printf, 3, 4))) void
meter_outcome_fail(struct meter_outcome *outcome, enum meter_state state, const char *format, ...);
