/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The reserve: it keeps a checkpoint at or above the totals that were shown after it was written.
 *
 * After a power loss only the last checkpoint is left. Its totals would be lower
 * than those that guests and Prometheus have seen since, and readers take a
 * counter that falls for a wrap (262 kJ at once) or a reset (the whole total
 * again). So a checkpoint that is written while the daemon runs holds every
 * total as it may be when the next one is due: it adds the growth of the last
 * interval, for LEDGER_RESERVE_NS. As soon as a total is about to exceed the
 * checkpoint on disk, the next one is written at once (ledger_store.c). So the
 * totals on disk are never below those that were shown, except during the
 * milliseconds that a write takes.
 *
 * No total of a checkpoint is below that of the checkpoint before: a total that
 * pauses keeps its reserve, and does not hasten the next checkpoint when it
 * grows again.
 *
 * The reserve stands for energy that was measured, shown and lost with the
 * power: conservation holds, because measured energy includes the reserve. Its
 * error is at most its size, about a minute's energy for each power loss.
 * A clean stop writes the exact totals.
 *
 * CPU time and I/O have a reserve too, but do not hasten a checkpoint: they
 * come in bursts, and no guest sees them.
 */

#include <stdbool.h>

#include "ledger/ledger_image.h"
#include "util/clock.h"

/** The longest time between two checkpoints. */
#define LEDGER_CHECKPOINT_NS (60 * NSEC_PER_SEC)
/** How long the reserve of an evenly growing total lasts. */
#define LEDGER_RESERVE_NS (75 * NSEC_PER_SEC)
/** The least reserve of an energy total that grows: idle VMs do not hasten checkpoints. */
#define LEDGER_RESERVE_MIN_UJ (100 * UINT64_C(1000000))

/**
 * The expected growth until the next checkpoint.
 * @param growth_uj   of the last interval
 * @param elapsed_ns  its length; 0: not known, then least_uj is returned
 * @return microjoules, at least least_uj, at most what ZONE_POWER_MAX_W would draw
 */
uint64_t ledger_reserve_uj(uint64_t growth_uj, uint64_t elapsed_ns, uint64_t least_uj);

/**
 * Makes the checkpoint of an image. It has no readings: the reserve stands for
 * the energy used since.
 * @param before      the image one interval before; NULL: not known, then there is no growth
 * @param checkpoint  the one before; NULL: not known
 * @param ret         replaced
 * @return 0 or -ENOMEM
 */
int ledger_reserve_add(const struct ledger_image *now, const struct ledger_image *before,
                       const struct ledger_image *checkpoint, struct buffer *ret);

/**
 * Is every energy total of the checkpoint at or above the total now, and at or
 * above the total after one more interval like the last?
 * @param before  as above
 */
bool ledger_reserve_covers(const struct ledger_image *checkpoint, const struct ledger_image *now,
                           const struct ledger_image *before);
