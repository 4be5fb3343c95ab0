/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A zone's static power from many short windows on a host that does as little
 * as possible: the median over the quiet windows, moved from
 * their small load to none along the line of power over load.
 *
 * The median and the MAD are used because the disturbances of an idle host (a
 * timer, a cron job) only ever add power.
 */

#include <stddef.h>
#include <stdint.h>

/* Fewer windows do not show the spread. */
#define CALIBRATION_WINDOWS_MIN 10
#define CALIBRATION_WINDOWS_MAX 500

struct calibration_window {
    uint64_t energy_uj;
    uint64_t duration_ns; /* > 0 */
    double busy;          /* share of the zone's CPU time that was not idle, 0 to 1 */
};

/** Why a calibration should not be trusted; its uncertainty has grown accordingly. */
enum calibration_flaw {
    CALIBRATION_BUSY = 1u << 0,         /* less than half of the windows were quiet */
    CALIBRATION_UNSTEADY = 1u << 1,     /* the quiet windows differ by more than 5 % */
    CALIBRATION_EXTRAPOLATED = 1u << 2, /* their load was more than 10 % of the power */
};

struct calibration {
    double power_uw;
    double uncertainty_uw; /* standard uncertainty (one sigma) */
    double spread_uw;      /* standard deviation of a quiet window, estimated by the MAD */
    double busy;           /* median over all windows */
    double load_uw;        /* taken off for the load of the quiet windows */
    size_t quiet;          /* windows that were used */
    unsigned flaws;        /* bit per enum calibration_flaw */
};

/**
 * @param windows  n in sequence, n from CALIBRATION_WINDOWS_MIN to CALIBRATION_WINDOWS_MAX
 * @return 0, or -EINVAL for another n
 */
int calibrate_zone(const struct calibration_window *windows, size_t n, struct calibration *ret);
