/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * Tells the service manager's watchdog that the work makes progress, if it asked for that. To be
 * called once for each of many things in a loop that ends; costs little, for most calls do nothing.
 * The event loop feeds the watchdog between its handlers: this is for a handler that has so much to
 * do that it takes longer than the watchdog waits. What hangs calls nothing, and is found.
 */
void watchdog_feed(void);
