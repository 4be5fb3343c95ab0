/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform/platform_meter.h"

const char *platform_trust_to_string(enum platform_trust trust)
{
    static const char *const names[] = {
        [PLATFORM_UNKNOWN] = "unknown",
        [PLATFORM_TRUSTED] = "trusted",
        [PLATFORM_SILENT] = "silent",
        [PLATFORM_IMPLAUSIBLE] = "implausible",
        [PLATFORM_FROZEN] = "frozen",
        [PLATFORM_DEVIATING] = "deviating",
        [PLATFORM_CONTRADICTING] = "contradicting",
    };

    return names[trust];
}
