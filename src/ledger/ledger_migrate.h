/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * VMs that come and go with their counters: migration, save and restore.
 *
 *     ledger -> struct vm_departure -> the domain's metadata, which goes with the VM
 *     the domain's metadata -> struct vm_arrival -> ledger, where it begins to run
 *
 * Energy that a VM used on other hosts has the source "elsewhere", which has no
 * counter on this host: it is part of what the VM's tree shows, as the energy of
 * any source is, but of no zone of this host, so that the host's rows still add
 * up to what the host measured.
 *
 * Metadata is written seldom, so the host where the VM arrives does not know
 * the value that the guest was shown last. That value is at most the bound: the
 * host that the VM leaves shows no more before it has written anew. So the tree
 * goes on at the bound, and stands there until the total has passed it; the
 * difference is the static_uj of the zone totals "elsewhere", which shrinks as
 * the total grows. Energy used between the last writing and the departure, up
 * to a minute's energy, is in the former host's ledger only.
 *
 * Where the ledger's totals are above the metadata's, the ledger wins: after a
 * save and restore on this host, with an old save image, or a snapshot. A VM
 * that returns adds the energy that it used since it left.
 */

#include "ledger/ledger.h"

/**
 * Lists the energy of the running VMs that libvirt is to keep.
 * @param now  CLOCK_MONOTONIC
 * @param ret  new memory, in no order; to be freed by the caller
 * @return 0 or -ENOMEM
 */
int ledger_list_departures(struct ledger *ledger, uint64_t now, struct vm_departure **ret,
                           size_t *ret_n);

/** Sets how much the VMs' trees may show from the next snapshot on: their ceiling_uj. */
void ledger_set_ceilings(struct ledger *ledger, const struct vm_departure *departures, size_t n);
