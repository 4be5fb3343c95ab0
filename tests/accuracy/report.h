/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "verdict.h"

/**
 * Writes DIRECTORY/accuracy.md; the same results give the same bytes.
 * @param checks  the same with other seeds
 */
void report_write(const struct results *results, const struct results *checks, size_t n_checks,
                  const char *directory);

/** Writes what plots.gp plots, *.dat. */
void report_write_data(const struct results *results, const char *directory);
