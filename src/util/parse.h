/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Parsers of short texts, pure functions over a buffer. All return 0, -EINVAL
 * (not of the form) or -ERANGE (does not fit), and leave the output untouched
 * on failure. None accepts signs, leading blanks or trailing bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Decimal digits, the whole buffer. */
int parse_u64(const char *text, size_t length, uint64_t *ret);

/** Decimal digits, a number within bounds; -ERANGE beyond. */
int parse_u64_between(const char *text, uint64_t from, uint64_t to, uint64_t *ret);

/** Decimal digits and one optional newline: the form of a sysfs number. */
int parse_sysfs_u64(const char *text, size_t length, uint64_t *ret);

/** "yes"/"no", "true"/"false", "on"/"off", "1"/"0". */
int parse_bool(const char *text, bool *ret);

/** "100ms", "1s", "1.5s", "250us", "2min" to nanoseconds; the unit is required. */
int parse_duration_ns(const char *text, uint64_t *ret);

/** "20.5W", "800mW" to microwatts; the unit is required. */
int parse_power_uw(const char *text, uint64_t *ret);

/** "1mJ", "500uJ", "1J" to microjoules; the unit is required. */
int parse_energy_uj(const char *text, uint64_t *ret);

/** A decimal number such as "0.98", up to 9 decimals, to billionths. */
int parse_decimal_e9(const char *text, uint64_t *ret);

/** A real number >= 0, "12", "0.98" or "1.5e-9"; -ERANGE where a double cannot hold it. */
int parse_real(const char *text, double *ret);

/** Four octal digits at most, "0444". */
int parse_mode(const char *text, unsigned *ret);
