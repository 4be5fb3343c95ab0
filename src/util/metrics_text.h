/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Pieces of Prometheus text. Numbers are printed from whole numbers, never
 * through floating point.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** The HELP and TYPE lines. */
void metrics_write_family(FILE *stream, const char *name, const char *type, const char *help);

/**
 * key="value", escaped; bytes that are no text become U+FFFD.
 * @param size  the value ends there, or at a NUL before
 */
void metrics_write_label(FILE *stream, const char *key, const char *value, size_t size);

/** "1.000001" and a newline. */
void metrics_write_joules(FILE *stream, uint64_t energy_uj);

/** "1.000000001" and a newline. */
void metrics_write_seconds(FILE *stream, uint64_t time_ns);
