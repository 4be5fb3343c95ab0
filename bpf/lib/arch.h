/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The one header of the architecture that the programs are built for. */

#if defined(__TARGET_ARCH_x86)
#include "lib/arch_x86.h"
#else
#error "lib/arch_NAME.h is missing: the numbers and arguments of this architecture's system calls"
#endif
