/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/**
 * The unified difference of two texts, by diff(1).
 * @param name  of the texts, in the header
 * @param ret   to be freed; empty where they are equal
 * @return 0, -ENOENT without a diff program, or another negative errno
 */
int unified_diff(const char *name, const char *before, const char *after, char **ret);
