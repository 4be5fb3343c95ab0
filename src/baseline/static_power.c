/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "baseline/static_power.h"

const char *static_origin_to_string(enum static_origin origin)
{
    static const char *const names[] = {
        [STATIC_NONE] = "none",
        [STATIC_FLOOR] = "floor",
        [STATIC_CONFIGURED] = "configured",
        [STATIC_CALIBRATED] = "calibrated",
        [STATIC_FROM_LOAD] = "learned",
    };

    return names[origin];
}

const char *static_state_to_string(enum static_state state)
{
    static const char *const names[] = {
        [STATIC_FIXED] = "fixed",
        [STATIC_LEARNING] = "learning",
        [STATIC_LEARNED] = "learned",
        [STATIC_NOT_IDENTIFIABLE] = "not-identifiable",
    };

    return names[state];
}
