/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/watchdog.h"

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-daemon.h>

#include "util/clock.h"

/* Far below any watchdog's period, and long enough that messages cost nothing. */
#define FEED_NS (100 * NSEC_PER_MSEC)

void watchdog_feed(void)
{
    static uint64_t fed_ns;
    uint64_t now = now_ns();

    if (now - fed_ns < FEED_NS)
        return;
    fed_ns = now;
    if (sd_watchdog_enabled(false, NULL) > 0)
        sd_notify(false, "WATCHDOG=1");
}
