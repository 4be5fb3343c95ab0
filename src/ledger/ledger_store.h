/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ledger's files: the ledger outlives the daemon and the host.
 *
 *     ledger --(every tick)--> <runtime_dir>/ledger      survives the process
 *            --(every minute)-> <state_dir>/ledger       survives the host
 *
 * A tick is entered in the ledger, saved, and only then published: whenever the
 * daemon is killed, no total has been shown that is not in the runtime file.
 * With the totals the file keeps the zones' readings up to which energy is
 * entered, so that the next daemon's first interval begins where the last one's
 * ended: the energy of the downtime is measured. It is attributed if usage was
 * counted over the same time, else it is unattributed.
 *
 * At start the newest good image is taken: the runtime file's if it is of this
 * boot, or the checkpoint. After a clean stop both are exact. After a power
 * loss, or when the runtime file is lost, the checkpoint's reserve
 * (ledger_reserve.h) keeps every total at or above the totals that were shown.
 *
 * A file that is damaged, of another version or of another machine is set
 * aside as ledger.bad-TIME, and that is logged. If a file cannot be written,
 * the ledger goes on in memory, and writing is tried again at growing intervals.
 */

#include "ledger/ledger.h"

struct ledger_store;

struct ledger_store_config {
    const char *runtime_dir;
    const char *state_dir;
    struct ledger_identity identity; /* of this boot and machine */
};

/** The identity of the running boot and machine. */
struct ledger_identity ledger_identity_now(void);

/**
 * Starts the store; no file is written before the first ledger_store_save().
 * @return 0 or a negative errno
 */
int ledger_store_new(struct ledger_store **ret, const struct ledger_store_config *config);

/**
 * Lets an empty ledger continue from its files, if there are any.
 * @param zones    the source's zones
 * @param now      CLOCK_MONOTONIC
 * @param sampler      zero-initialised; gets the readings to continue from
 * @param ret_time_ns  end of the last interval entered, or 0 when that is of another boot
 * @return 0 or -ENOMEM
 */
int ledger_store_load(struct ledger_store *store, struct ledger *ledger, const char *source,
                      const struct zone_set *zones, uint64_t now, struct sampler *sampler,
                      uint64_t *ret_time_ns);

/**
 * Saves the ledger as it is now, to be called before it is published. A file that
 * cannot be written is logged, and is no failure.
 * @param sampler  the readings up to which energy has been entered
 * @param time_ns  CLOCK_MONOTONIC of the end of the last interval entered
 * @return 0 or -ENOMEM, then nothing was kept
 */
int ledger_store_save(struct ledger_store *store, const struct ledger *ledger,
                      const struct sampler *sampler, uint64_t time_ns);

/**
 * Writes the last saved image as an exact checkpoint; frees. If the disk does not
 * take it in time, the write is left behind. NULL is accepted. @return NULL
 */
struct ledger_store *ledger_store_free(struct ledger_store *store);
