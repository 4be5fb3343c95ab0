/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <signal.h>

/**
 * Blocks every signal in the calling thread, so that a thread it now starts
 * inherits the mask and only the main loop handles signals.
 * @param ret_previous  for thread_restore_signals()
 */
static inline void thread_block_signals(sigset_t *ret_previous)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, ret_previous);
}

static inline void thread_restore_signals(const sigset_t *previous)
{
    pthread_sigmask(SIG_SETMASK, previous, NULL);
}
