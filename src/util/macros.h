/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/** The number of elements of an array, not of a pointer. */
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
