/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ledger: energy totals that only grow.
 *
 * For every zone, at every moment,
 *
 *     sum of the VMs' dynamic + host + static + unattributed = measured - remainder
 *
 * where the remainder is the part of the division that makes no whole microjoule
 * yet (share.h), below one microjoule per entity. The right-hand side is
 * published as measured, so that the published rows add up exactly. The static
 * energy that a policy shows to VMs is a view of the static row, not a row of
 * its own.
 *
 * The totals are integers; floating point never touches them.
 *
 * Zones are kept by source and name, also those that are gone: the total that a
 * guest is shown runs over all of them, so that no change of zones, source or
 * policy moves it backwards.
 */

#include "attribution/model.h"
#include "attribution/static_policy.h"
#include "baseline/static_power.h"
#include "baseline/static_split.h"
#include "discovery/vm.h"
#include "ledger/ledger_image.h"
#include "ledger/snapshot.h"
#include "source/sample.h"
#include "usage/usage.h"

/* How long an ended VM keeps its row: long enough for every scraper to read its last total. Its
   energy is then added to the row "former", and the VM starts anew if it returns. */
#define LEDGER_KEEP_NS (600 * UINT64_C(1000000000))

/* How long a restored VM has its tree although discovery has not seen the VM yet: libvirt takes a
   while to answer, and a guest whose tree is missing meanwhile would lose its open files. */
#define LEDGER_AWAIT_NS (10 * UINT64_C(1000000000))

/* How long a VM that is about to start has its tree although discovery has not seen it yet. */
#define LEDGER_PREPARED_NS (60 * UINT64_C(1000000000))

struct ledger;

struct ledger_config {
    char source[LEDGER_SOURCE_MAX]; /* of zones that name none; every source has its own totals */
    struct attribution_model *model;
    enum static_policy static_policy;
    bool publish_psys;    /* give VMs their share of the host's psys zone as a zone of their own */
    uint64_t interval_ns; /* nominal length of an interval: how long the published ramps run */
    uint64_t quantum_uj;  /* ramps begin and end at multiples of it; 0 and 1 mean none */
};

/** @param config  copied. @return 0 or -ENOMEM */
int ledger_new(struct ledger **ret, const struct ledger_config *config);
struct ledger *ledger_free(struct ledger *ledger);

/**
 * The static power that was learned of a zone, as of the last interval that was entered with a
 * learned one; else origin STATIC_NONE.
 */
struct static_power ledger_get_learned(const struct ledger *ledger, const char *source,
                                       const char *zone);

/**
 * Has the platform's zone, which contains all packages and memory, divided by
 * the energy that the entities used of these in the same interval, and by their
 * block I/O.
 * @param slot            the platform's
 * @param io_pj_per_byte  what a byte of I/O counts, picojoules of that energy
 */
void ledger_set_platform(struct ledger *ledger, size_t slot, uint64_t io_pj_per_byte);

/**
 * Updates which VMs there are; new ones get a row.
 * @param time_ns  CLOCK_MONOTONIC
 * @return 0 or -ENOMEM, then some VMs may still lack their row
 */
int ledger_update_vms(struct ledger *ledger, const struct vm_table *vms, uint64_t time_ns);

/**
 * Gives a VM that is about to start its tree before discovery has seen it, for
 * LEDGER_PREPARED_NS. Its UUID stands for its name until the name is known.
 * @param uuid     not null
 * @param time_ns  CLOCK_MONOTONIC
 * @return 0 or -ENOMEM
 */
int ledger_prepare_vm(struct ledger *ledger, const uuid_t uuid, uint64_t time_ns);

/**
 * Enters one interval.
 * @param usage          of the same interval; its VMs may be gone already
 * @param static_powers  by zone slot, zones->n of them; learned ones are kept with the totals
 * @return 0 or -ENOMEM, then nothing was entered
 */
int ledger_record(struct ledger *ledger, const struct zone_set *zones, const struct sample *sample,
                  const struct usage *usage, const struct static_power *static_powers);

/**
 * The publishers' view of the ledger as it is now. Ramps to new totals begin
 * at this moment; if no interval was entered since the last call, the ramps go
 * on as they were.
 * @param sample  the one that was recorded last
 * @param now     CLOCK_MONOTONIC nanoseconds
 * @param ret     to be completed by the caller: source, usage_provider, estimate, health,
 *                meters, the zones' static_power, and the VMs' tree_reads
 * @return 0 or -ENOMEM
 */
int ledger_snapshot(struct ledger *ledger, const struct zone_set *zones,
                    const struct sample *sample, uint64_t now, struct snapshot **ret);

/** Removes the rows of VMs that ended LEDGER_KEEP_NS ago, and calls forget(id) for each. */
void ledger_expire(struct ledger *ledger, uint64_t now, void (*forget)(uint32_t id, void *userdata),
                   void *userdata);

/**
 * Continues from an image that ledger_image_parse() accepted, before any interval
 * is entered. The VMs' trees stand at their totals: at or above what any guest
 * has seen. VMs that do not return keep their rows for LEDGER_KEEP_NS from now.
 * @param now  CLOCK_MONOTONIC
 * @return 0; -EBADMSG: two rows of one VM; -ENOMEM; then the ledger is empty
 */
int ledger_restore(struct ledger *ledger, const struct ledger_image *image, uint64_t now);
