/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ledger: energy totals that only grow.
 *
 * For every zone, at every moment,
 *
 *     sum of the VMs' dynamic + host + static + unattributed = measured - carried
 *
 * where carried is the sub-microjoule rest of the division (share.h), below
 * one microjoule per entity. What is published as measured is the right-hand
 * side, so that the published rows add up exactly. The static energy that a
 * policy shows to VMs is a view of the static row, not a row of its own.
 *
 * Floating point never touches it.
 */

#include "attribution/baseline.h"
#include "attribution/model.h"
#include "attribution/snapshot.h"
#include "attribution/static_policy.h"
#include "discovery/vm.h"
#include "source/sample.h"
#include "usage/usage.h"

/* How long an ended VM keeps its row: long enough for every scraper to see its last total. Its
   energy is then added to the row "former", and the VM starts anew if it returns. */
#define LEDGER_KEEP_NS (600 * UINT64_C(1000000000))

struct ledger;

struct ledger_config {
    struct attribution_model *model;
    enum static_policy static_policy;
    bool publish_psys;    /* give VMs their share of the host's psys zone as a zone of their own */
    uint64_t interval_ns; /* nominal length of an interval: how long the published ramps run */
};

/** @param config  copied. @return 0 or -ENOMEM */
int ledger_new(struct ledger **ret, const struct ledger_config *config);
struct ledger *ledger_free(struct ledger *ledger);

/** Sets the static power of the zone in a slot. 0: none. */
void ledger_set_baseline(struct ledger *ledger, size_t slot, uint64_t power_uw);

/**
 * Takes in which VMs there are; new ones get a row.
 * @param time_ns  CLOCK_MONOTONIC
 * @return 0 or -ENOMEM, then some VMs may still lack their row
 */
int ledger_update_vms(struct ledger *ledger, const struct vm_table *vms, uint64_t time_ns);

/**
 * Enters one interval.
 * @param usage  what was consumed in it; its VMs may be gone already
 * @return 0 or -ENOMEM, then nothing was entered
 */
int ledger_record(struct ledger *ledger, const struct zone_set *zones, const struct sample *sample,
                  const struct usage *usage);

/**
 * The publishers' view of the ledger as it is now. Ramps to new totals begin
 * at this moment; without a new interval since the last call they go on as
 * they were.
 * @param sample  the one that was recorded last
 * @param now     CLOCK_MONOTONIC nanoseconds
 * @param ret     to be completed by the caller: source, usage_provider, estimate, health,
 *                and the VMs' tree_reads
 * @return 0 or -ENOMEM
 */
int ledger_snapshot(struct ledger *ledger, const struct zone_set *zones,
                    const struct sample *sample, uint64_t now, struct snapshot **ret);

/** Gives up the rows of VMs that ended LEDGER_KEEP_NS ago, and calls forget(id) for each. */
void ledger_expire(struct ledger *ledger, uint64_t now, void (*forget)(uint32_t id, void *userdata),
                   void *userdata);
