/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The file that keeps how far usage has been counted: <runtime_dir>/usage.
 *
 *     usage provider --(every tick, before the ledger)--> file --(at start)--> next provider
 *
 * The file has the last two intervals' states. Whenever the daemon is killed, one
 * of them is of the interval that the ledger ends with. A state of another
 * interval cannot be used, because its usage and the ledger's energy would not
 * begin at the same moment: the energy of the downtime is then unattributed.
 */

#include "usage/usage.h"

struct usage_store;

/** Does not touch the disk. @return 0 or -ENOMEM */
int usage_store_new(struct usage_store **ret, const char *runtime_dir);
/** Leaves the file in place. NULL is accepted. @return NULL */
struct usage_store *usage_store_free(struct usage_store *store);

/**
 * Finds the state of an interval.
 * @param time_ns  CLOCK_MONOTONIC of its end
 * @param ret      state and state_size are set, valid until the first save; or they stay
 */
void usage_store_load(struct usage_store *store, uint64_t time_ns, struct usage_former *ret);

/** Keeps how far the provider counted up to an interval's end. A failure is logged once. */
void usage_store_save(struct usage_store *store, const struct usage_provider *provider,
                      uint64_t time_ns);
