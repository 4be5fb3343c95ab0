/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Meters: what tells the power of the whole machine, where RAPL tells that of
 * its processors and memory.
 *
 *     BMC, sensor, Redfish, PDU --(asked every interval, from the event loop)-->
 *         reading or failure --> meter_status --(looked at by every tick)--> platform
 *
 * A tick never waits for a meter: it looks at what the meter last said, and a
 * new reading has a new time. A meter that fails is asked less and less often,
 * and what it said before stays as it is, growing older.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/** How the last question to a meter ended. */
enum meter_state {
    METER_WAITING,      /* none has ended yet */
    METER_OK,           /* with a reading */
    METER_ABSURD,       /* with a figure that no machine draws: 0 W, or above METER_POWER_MAX_W */
    METER_INACTIVE,     /* the meter says that it does not measure (yet) */
    METER_BUSY,         /* the meter says that it cannot answer now */
    METER_MALFORMED,    /* with something that is no answer: wrong length, type or syntax */
    METER_SILENT,       /* with none in time */
    METER_ABSENT,       /* there is no such device, host or figure */
    METER_UNAUTHORISED, /* permission, password or community refused */
    METER_UNTRUSTED,    /* the certificate, or a redirection to elsewhere, was refused */
};
#define METER_STATES (METER_UNTRUSTED + 1)

/** "ok", "absurd" and so on: the word for metrics and `virtjoule show --host`. */
const char *meter_state_to_string(enum meter_state state);

/** More than any single machine draws; 65535 W, which some BMCs give, is above it. */
#define METER_POWER_MAX_W 60000

/** What a meter said. */
struct meter_reading {
    uint64_t time_ns;       /* CLOCK_MONOTONIC, in the middle of question and answer; 0: none yet */
    uint64_t power_uw;      /* > 0, up to METER_POWER_MAX_W */
    uint64_t resolution_uw; /* the figure's own step, > 0 */
    uint64_t averaged_ns;   /* the mean over that long before time_ns; 0: now, or not known */
};

/** What there is to know of a meter; read it freely between two events of the loop. */
struct meter_status {
    enum meter_state state;
    struct meter_reading last;    /* the last good reading; time_ns 0: there was none */
    uint64_t asked[METER_STATES]; /* questions by how they ended */
    unsigned failures;            /* in a row; 0: the last one went well */
    char detail[160];             /* of the last failure, printable; empty after success */
};

struct meter;

/** What a kind of meter must do. One file implements it per kind. */
struct meter_ops {
    const char *name; /* "dcmi", "hwmon", "redfish", "snmp": the source label of the metrics */

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

    sd_event_source *timer; /* the next question, or the end of patience */
    enum meter_state told;  /* the state as it was logged */
    uint64_t asked_ns;      /* CLOCK_MONOTONIC of the open question; 0: none is open */
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
 * For implementations: the open question failed. A change of state is logged, a
 * passing one (of one question only) is not.
 * @param state   not METER_OK or METER_WAITING
 * @param detail  may hold any bytes: what is not printable ASCII is replaced
 */
void meter_fail(struct meter *meter, enum meter_state state, const char *detail);

/** Gives up an open question and frees the meter; NULL is accepted. @return NULL */
struct meter *meter_free(struct meter *meter);
