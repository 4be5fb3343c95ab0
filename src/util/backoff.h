/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When to repeat a failed attempt: after a second, then after twice as long
 * each time, up to a minute.
 */

#include <stdbool.h>
#include <stdint.h>

#include "util/clock.h"

#define BACKOFF_MIN_NS NSEC_PER_SEC
#define BACKOFF_MAX_NS (60 * NSEC_PER_SEC)

/** Zero-initialised: nothing has failed, an attempt is due. */
struct backoff {
    uint64_t next_ns; /* CLOCK_MONOTONIC of the next attempt */
    uint64_t wait_ns; /* from the last failure to the next attempt; 0: nothing has failed */
};

static inline bool backoff_is_due(const struct backoff *backoff, uint64_t now)
{
    return now >= backoff->next_ns;
}

/** Records a failed attempt. */
static inline void backoff_failed(struct backoff *backoff, uint64_t now)
{
    uint64_t longer_ns = 2 * backoff->wait_ns;

    backoff->wait_ns = longer_ns == 0               ? BACKOFF_MIN_NS
                       : longer_ns < BACKOFF_MAX_NS ? longer_ns
                                                    : BACKOFF_MAX_NS;
    backoff->next_ns = now + backoff->wait_ns;
}

/** Records a successful attempt: the next failure begins anew. */
static inline void backoff_reset(struct backoff *backoff)
{
    *backoff = (struct backoff){0};
}
