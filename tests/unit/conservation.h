/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ledger/snapshot.h"
#include "unit.h"

/* The rows of every zone add up, to the microjoule. */
static inline void assert_conserved(const struct snapshot *snapshot)
{
    for (size_t slot = 0; slot < snapshot->n_zones; slot++) {
        const struct snapshot_zone *zone = &snapshot->zones[slot];
        uint64_t sum = zone->host_uj + zone->static_uj + zone->unattributed_uj;

        for (size_t i = 0; i < snapshot->n_vms; i++)
            sum += snapshot->vms[i].dynamic_uj[slot];
        assert_int_equal(sum, zone->measured_uj);
    }
}
