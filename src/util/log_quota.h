/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How many log lines an outside party may cause: some at once, and as many again after
 * ten minutes. The next line that is logged tells how many were left out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "util/clock.h"

#define LOG_QUOTA_LINES 10
#define LOG_QUOTA_NS (600 * NSEC_PER_SEC)

/** Zero-initialised: nothing has been logged. */
struct log_quota {
    uint64_t begin_ns; /* CLOCK_MONOTONIC of the first of these lines */
    unsigned lines;
    uint64_t left_out;
};

/** Counts one line. @return whether it may be logged; it then tells of left_out ones before */
static inline bool log_quota_take(struct log_quota *quota, uint64_t now, uint64_t *ret_left_out)
{
    if (quota->lines == 0 || now - quota->begin_ns >= LOG_QUOTA_NS) {
        quota->begin_ns = now;
        quota->lines = 0;
    }
    if (quota->lines == LOG_QUOTA_LINES) {
        quota->left_out++;
        return false;
    }
    quota->lines++;
    *ret_left_out = quota->left_out;
    quota->left_out = 0;
    return true;
}
