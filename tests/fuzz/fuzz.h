/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What every fuzz target includes: libFuzzer's entry, and a way to say that a result is wrong. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../lib/require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
