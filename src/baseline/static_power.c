/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_power.h"

const char *baseline_origin_to_string(enum baseline_origin origin)
{
    static const char *const names[] = {
        [BASELINE_NONE] = "none",
        [BASELINE_CONFIGURED] = "configured",
        [BASELINE_CALIBRATED] = "calibrated",
        [BASELINE_FROM_LOAD] = "learned",
    };

    return names[origin];
}

const char *baseline_state_to_string(enum baseline_state state)
{
    static const char *const names[] = {
        [BASELINE_FIXED] = "fixed",
        [BASELINE_LEARNING] = "learning",
        [BASELINE_LEARNED] = "learned",
        [BASELINE_NOT_IDENTIFIABLE] = "not-identifiable",
    };

    return names[state];
}
