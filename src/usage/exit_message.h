/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct nlmsghdr;

/** Takes one end: see exit_listener_dispatch(). */
typedef void (*exit_handler)(pid_t pid, uint64_t cpu_ns, void *userdata);

/**
 * Reads one taskstats message: the end of a thread, of a process, or of both.
 * @param message  nlmsg_len bytes of any content
 * @return how often on_exit was called: 0 for a message that reports no end
 */
int exit_message_parse(struct nlmsghdr *message, exit_handler on_exit, void *userdata);
