/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Meters: they measure the power of the whole machine, where RAPL measures that of
 * its processors and memory.
 *
 *     BMC, sensor, Redfish, PDU --(asked every interval, from the event loop)-->
 *         reading or failure --> meter_status --(looked at by every tick)--> platform
 *
 * A tick never waits for a meter: it looks at the meter's last reading, and a new
 * reading has a new time. A meter that fails is asked less and less often, and its
 * last good reading stays as it is, growing older.
 *
 * Which input ends in which state, for every kind. A kind has no rules of its own:
 * it has a table of the codes by which its device or library reports a failure
 * (meter_find_code()), and the helpers named here.
 *
 *     input                                              state         by
 *     a figure above 0, up to METER_POWER_MAX_W          OK            meter_answer()
 *     0 W, a negative power, 65535 W                     ABSURD        meter_answer()
 *     "power measurement is not active"                  INACTIVE      codes of the kind
 *     "busy", HTTP 429 and 5xx, another SNMP error,      BUSY          codes of the kind,
 *       EAGAIN, EBUSY, EIO, ETIMEDOUT                                  meter_state_of_errno()
 *     an answer that is too short or too long, of the    MALFORMED     the kind's parser,
 *       wrong type or syntax, to another question;                     codes of the kind,
 *       a file that holds no number (EINVAL, ERANGE)                   meter_state_of_errno()
 *     no answer in time, connection refused or broken    SILENT        meter.c, codes of the kind
 *     no such device, file, host, object or figure       ABSENT        meter_state_of_errno(),
 *       (ENOENT, ENODEV, every other errno)                            codes of the kind
 *     EACCES, EPERM; password or community refused;      UNAUTHORISED  meter_state_of_errno(),
 *       credentials unreadable or open to others                       codes of the kind,
 *                                                                      meter_load_credentials()
 *     a certificate that is wrong; a redirection to      UNTRUSTED     https_client.c
 *       another server
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/** How the last question to a meter ended; the table above says by which input. */
enum meter_state {
    METER_WAITING, /* no question has ended yet */
    METER_OK,
    METER_ABSURD,
    METER_INACTIVE,
    METER_BUSY,
    METER_MALFORMED,
    METER_SILENT,
    METER_ABSENT,
    METER_UNAUTHORISED,
    METER_UNTRUSTED,
    METER_STATES, /* how many states there are */
};

/** "ok", "absurd" and so on: the word for metrics and `virtjoule show --host`. */
const char *meter_state_to_string(enum meter_state state);

/** What a code of a device or a library means for its meter. */
struct meter_code {
    long code;
    enum meter_state state;
    const char *detail; /* NULL: the library has a text of its own */
};

/** The code of a table's last row, which stands for every code without a row. */
#define METER_CODE_OTHER LONG_MIN

/** @param codes  ends with METER_CODE_OTHER */
const struct meter_code *meter_find_code(const struct meter_code *codes, long code);

/** The state of a meter whose device or file fails with that errno, of either sign. */
enum meter_state meter_state_of_errno(int error);

/** More than any single machine draws; 65535 W, which some BMCs give, is above it. */
#define METER_POWER_MAX_W 60000

/** One figure of a meter. */
struct meter_reading {
    uint64_t time_ns;       /* CLOCK_MONOTONIC, in the middle of question and answer; 0: none yet */
    uint64_t power_uw;      /* > 0, up to METER_POWER_MAX_W */
    uint64_t resolution_uw; /* the figure's own step, > 0 */
    uint64_t averaged_ns;   /* the mean over that long before time_ns; 0: now, or not known */
};

/** Size of the text that explains a failure. */
#define METER_DETAIL_MAX 160

/** What is known of a meter; may be read between any two events of the loop. */
struct meter_status {
    enum meter_state state;
    struct meter_reading last;     /* the last good reading; time_ns 0: there was none */
    uint64_t asked[METER_STATES];  /* questions by how they ended */
    unsigned failures;             /* in a row; 0: the last question ended with a reading */
    char detail[METER_DETAIL_MAX]; /* of the last failure, printable; empty after success */
};

/** What a meter is made in. */
struct meter_host {
    sd_event *event;
    const char *sysfs_root; /* "/sys", or a directory laid out like it */
};

struct meter;

/** What a kind of meter must do. One file implements it per kind; see meter/meters.h. */
struct meter_ops {
    const char *name; /* the kind's, as in METER_KINDS: the source label of the metrics */

    /**
     * Asks for one reading. Must not wait; ends with one call of meter_answer()
     * or meter_fail(), which may come before this returns.
     */
    void (*ask)(struct meter *meter);

    /** Gives up the question: neither of the two may be called for it from now on. */
    void (*cancel)(struct meter *meter);

    void (*free)(struct meter *meter);
};

/** The common head of every meter; implementations embed it first. */
struct meter {
    const struct meter_ops *ops;
    struct meter_status status;
    uint64_t interval_ns; /* between two questions, while they are answered */
    uint64_t timeout_ns;  /* for one answer */

    sd_event_source *timer;  /* the next question, or the end of the open one's time */
    enum meter_state logged; /* the state of the last log line */
    uint64_t asked_ns;       /* CLOCK_MONOTONIC of the open question; 0: none is open */
};

/**
 * How old the last good reading is.
 * @param time_ns  CLOCK_MONOTONIC
 * @return nanoseconds, UINT64_MAX: there was none
 */
uint64_t meter_age_ns(const struct meter *meter, uint64_t time_ns);

/**
 * Starts to ask, at once and then every interval.
 * @param meter  ops, interval_ns and timeout_ns set
 * @return 0 or a negative errno
 */
int meter_start(struct meter *meter, sd_event *event);

/**
 * For implementations: the answer to the open question. A power that no machine
 * draws counts as a failure.
 * @param reading  all but time_ns
 */
void meter_answer(struct meter *meter, const struct meter_reading *reading);

/**
 * For implementations: the open question failed. A change of state is logged; a single
 * failure between two readings is not.
 * @param state   not METER_OK or METER_WAITING
 * @param detail  may hold any bytes: what is not printable ASCII is replaced
 */
void meter_fail(struct meter *meter, enum meter_state state, const char *detail);

/** Gives up an open question and frees the meter; NULL is accepted. @return NULL */
struct meter *meter_free(struct meter *meter);
