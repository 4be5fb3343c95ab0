/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The CPU time that a process had used when it ended, from the kernel's
 * taskstats messages (Documentation/accounting/taskstats.rst). A message is
 * queued before the parent is notified, so the parent cannot reap the process,
 * and its times with it, before the message is there.
 */

#include <stddef.h>

#include "usage/exit_message.h"

struct exit_listener;

/**
 * @param n_cpus  CPUs that may be or come online
 * @return 0, or a negative errno: no CAP_NET_ADMIN in the initial namespaces,
 *         or a kernel without taskstats
 */
int exit_listener_new(struct exit_listener **ret, size_t n_cpus);
struct exit_listener *exit_listener_free(struct exit_listener *listener);

/** Readable when processes have ended. */
int exit_listener_fd(const struct exit_listener *listener);

/**
 * Calls back for each thread and each process that ended since the last call.
 * @param on_exit  pid: of the process, or of a thread alone (then cpu_ns is
 *                 that thread's; for a process' only thread, the process')
 */
void exit_listener_dispatch(struct exit_listener *listener, exit_handler on_exit, void *userdata);
