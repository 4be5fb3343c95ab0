/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The thread that writes checkpoints, so that no tick waits for a disk.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ledger_writer;

/**
 * Starts the thread.
 * @param path  of the checkpoint, copied; its directory need not exist yet
 * @return 0 or a negative errno
 */
int ledger_writer_new(struct ledger_writer **ret, const char *path);

/**
 * Waits for a write under way, ends the thread; NULL is accepted. A writer whose
 * write may never end must not be freed, but left behind. @return NULL
 */
struct ledger_writer *ledger_writer_free(struct ledger_writer *writer);

/**
 * Begins to write, as replace_file() does; no other write may be under way.
 * @param image  unchanged and not freed until ledger_writer_wait() has returned true
 */
void ledger_writer_submit(struct ledger_writer *writer, const void *image, size_t size);

/**
 * Takes the result of a write, once.
 * @param timeout_ns  how long to wait for the end of the write; 0: not at all
 * @param ret         0 or a negative errno; untouched when false is returned
 * @return false if the write goes on, or none was begun
 */
bool ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret);
