/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is known of a zone's static power: the power it draws with no load. */

#include <stdint.h>

enum baseline_origin {
    BASELINE_NONE, /* nothing is known: all energy counts as dynamic */
    BASELINE_CONFIGURED,
    BASELINE_CALIBRATED, /* from the file that `virtjoule calibrate` wrote */
    BASELINE_FROM_LOAD,  /* learned while VMs run */
};

enum baseline_state {
    BASELINE_FIXED,            /* nothing is learned about this zone */
    BASELINE_LEARNING,         /* too few samples yet */
    BASELINE_LEARNED,          /* the value follows the samples */
    BASELINE_NOT_IDENTIFIABLE, /* the load varies too little, or does not tell the power: the value
                                  stays what it was */
};

struct zone_baseline {
    enum baseline_origin origin;
    enum baseline_state state;
    uint64_t power_uw;
    uint64_t uncertainty_uw; /* standard uncertainty (one sigma); 0 when nothing is known of it */
};

/** "none", "configured", "calibrated", "learned". */
const char *baseline_origin_to_string(enum baseline_origin origin);

/** "fixed", "learning", "learned", "not-identifiable". */
const char *baseline_state_to_string(enum baseline_state state);
