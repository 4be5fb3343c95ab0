/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The thread that writes checkpoints: a disk takes its time, a tick has none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger_writer;

/** Starts the thread. @param directory  need not exist yet @return 0 or a negative errno */
int ledger_writer_new(struct ledger_writer **ret, const char *directory, const char *name);

/**
 * Waits for a write under way, ends the thread; NULL is accepted. Where the
 * write may never end the writer is not freed, but left behind. @return NULL
 */
struct ledger_writer *ledger_writer_free(struct ledger_writer *writer);

/**
 * Begins to write, as ledger_checkpoint_write() does.
 * @param image  unchanged and not freed until ledger_writer_wait() has told the result
 */
void ledger_writer_submit(struct ledger_writer *writer, const void *image, size_t size);

/**
 * Tells once that a write is done.
 * @param timeout_ns  how long to wait for it; 0: not at all
 * @param ret         its result; as it was if there is none
 * @return false if it goes on
 */
bool ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret);
