/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "verdict.h"

/** Writes DIRECTORY/accuracy.md; the same results give the same bytes. */
void report_write(const struct results *results, const char *directory);

/** Writes what plots.gp plots, *.dat. */
void report_write_data(const struct results *results, const char *directory);
