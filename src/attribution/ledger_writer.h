/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The thread that writes checkpoints: a disk takes its time, a tick has none.
 */

#include <stdbool.h>
#include <stddef.h>

struct ledger_writer;

/** Starts the thread. @param directory  need not exist yet @return 0 or a negative errno */
int ledger_writer_new(struct ledger_writer **ret, const char *directory, const char *name);

/** Waits for a write under way, ends the thread; NULL is accepted. @return NULL */
struct ledger_writer *ledger_writer_free(struct ledger_writer *writer);

/**
 * Begins to write, as ledger_checkpoint_write() does.
 * @param image  unchanged and not freed until ledger_writer_poll() has told the result
 */
void ledger_writer_submit(struct ledger_writer *writer, const void *image, size_t size);

/** Tells once that a write is done. @param ret  its result @return false if there is nothing new */
bool ledger_writer_poll(struct ledger_writer *writer, int *ret);
