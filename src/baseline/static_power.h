/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is known of a zone's static power: the power it draws with no load. */

#include <stdbool.h>
#include <stdint.h>

enum static_origin {
    STATIC_NONE,  /* nothing is known: all energy counts as dynamic */
    STATIC_FLOOR, /* the least power seen, until more is learned */
    STATIC_CONFIGURED,
    STATIC_CALIBRATED, /* from the file that `virtjoule calibrate` wrote */
    STATIC_FROM_LOAD,  /* learned while VMs run */
};

enum static_state {
    STATIC_FIXED,            /* nothing is learned about this zone */
    STATIC_LEARNING,         /* too few samples yet */
    STATIC_LEARNED,          /* the value follows the samples */
    STATIC_NOT_IDENTIFIABLE, /* the load varies too little, or does not determine the power: the
                                value stays as it was */
};

struct static_power {
    enum static_origin origin;
    enum static_state state;
    uint64_t power_uw;
    uint64_t uncertainty_uw; /* standard uncertainty (one sigma); 0 when nothing is known of it */
    int64_t drift_uw;        /* how far from power_uw it was in the last interval; > -power_uw */
};

/** "none", "floor", "configured", "calibrated", "learned". */
const char *static_origin_to_string(enum static_origin origin);

/** Was it learned while VMs ran? Then the next daemon begins with it. */
static inline bool static_power_is_learned(const struct static_power *static_power)
{
    return static_power->origin == STATIC_FROM_LOAD || static_power->origin == STATIC_FLOOR;
}

/** "fixed", "learning", "learned", "not-identifiable". */
const char *static_state_to_string(enum static_state state);
