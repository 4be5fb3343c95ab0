/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* System calls of x86-64: their numbers, and where their arguments are. */

#include "lib/kernel.h"

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_read 0
#define NR_poll 7
#define NR_readv 19
#define NR_select 23
#define NR_accept 43
#define NR_recvfrom 45
#define NR_recvmsg 47
#define NR_epoll_wait 232
#define NR_pselect6 270
#define NR_ppoll 271
#define NR_epoll_pwait 281
#define NR_accept4 288
#define NR_io_uring_enter 426
#define NR_epoll_pwait2 441

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs {
    unsigned long si;
    unsigned long orig_ax;
};

#pragma clang attribute pop

/* Of a task that is in a system call. */
#define ARCH_CALL_NUMBER(registers) ((registers)->orig_ax)
#define ARCH_CALL_ARGUMENT_2(registers) ((registers)->si)
