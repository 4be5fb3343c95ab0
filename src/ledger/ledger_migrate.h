/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * VMs that come and go with their counters: migration, save and restore.
 *
 *     ledger -> struct vm_departure -> the domain's metadata, which goes with the VM
 *     the domain's metadata -> struct vm_arrival -> ledger, where it begins to run
 *
 * What a VM used elsewhere is energy of a source "elsewhere", which nothing is
 * measured of here: it is part of what the VM's tree shows, as the energy of
 * any source is, and of no zone of this host, so that the host's rows go on
 * adding up to what it measured.
 *
 * Metadata is written seldom, and what the guest was shown last is not known
 * where the VM arrives. It is known to be at most the bound: the host that the
 * VM leaves does not show more before it has written anew. So the tree goes on
 * at the bound, and stands there until the total has passed it; this rest is
 * the static_uj of the zone totals "elsewhere", which becomes less as the total
 * grows. What was used between the last writing and the leaving, up to a
 * minute's energy, is in the former host's ledger only.
 *
 * A ledger that knows more than the metadata wins: a VM that was saved and
 * restored here, an old save image, a snapshot. A VM that returns adds what it
 * used since it left.
 */

#include "ledger/ledger.h"

/**
 * Lists what libvirt is to keep of the running VMs.
 * @param now  CLOCK_MONOTONIC
 * @param ret  new memory, in no order; to be freed by the caller
 * @return 0 or -ENOMEM
 */
int ledger_list_departures(struct ledger *ledger, uint64_t now, struct vm_departure **ret,
                           size_t *ret_n);

/** Sets how much the VMs' trees may show from the next snapshot on: their ceiling_uj. */
void ledger_set_ceilings(struct ledger *ledger, const struct vm_departure *departures, size_t n);
