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
 *
 * Zones are kept by source and name, also those that are gone: what a guest is
 * shown runs over all of them, so that no change of zones, source or policy
 * moves it backwards.
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

/* How long an ended VM keeps its row: long enough for every scraper to see its last total. Its
   energy is then added to the row "former", and the VM starts anew if it returns. */
#define LEDGER_KEEP_NS (600 * UINT64_C(1000000000))

/* How long a restored VM has its tree although nobody has seen it yet: libvirt takes its time to
   answer, and a guest whose tree is missing meanwhile would lose its open files. */
#define LEDGER_AWAIT_NS (10 * UINT64_C(1000000000))

/* How long a VM that is about to start has its tree although nobody has seen it yet. */
#define LEDGER_PREPARED_NS (60 * UINT64_C(1000000000))

struct ledger;

struct ledger_config {
    char source[LEDGER_SOURCE_MAX]; /* where the energy comes from: its totals are its own */
    struct attribution_model *model;
    enum static_policy static_policy;
    bool publish_psys;    /* give VMs their share of the host's psys zone as a zone of their own */
    uint64_t interval_ns; /* nominal length of an interval: how long the published ramps run */
};

/** @param config  copied. @return 0 or -ENOMEM */
int ledger_new(struct ledger **ret, const struct ledger_config *config);
struct ledger *ledger_free(struct ledger *ledger);

/**
 * Sets the static power of the zone in a slot, for the intervals to come. What was learned is kept
 * with the zone's totals.
 */
void ledger_set_static_power(struct ledger *ledger, size_t slot,
                             const struct static_power *static_power);

/** What was learned of a zone's static power when it was last set; else origin STATIC_NONE. */
struct static_power ledger_get_learned(const struct ledger *ledger, const char *source,
                                       const char *zone);

/**
 * Has the zone in a slot divided by the energy that the entities used of all
 * packages and memory in the same interval, for it contains them, and by their
 * block I/O.
 * @param io_pj_per_byte  what a byte of it counts, picojoules of the former
 */
void ledger_set_platform(struct ledger *ledger, size_t slot, uint64_t io_pj_per_byte);

/**
 * Takes in which VMs there are; new ones get a row.
 * @param time_ns  CLOCK_MONOTONIC
 * @return 0 or -ENOMEM, then some VMs may still lack their row
 */
int ledger_update_vms(struct ledger *ledger, const struct vm_table *vms, uint64_t time_ns);

/**
 * Gives a VM its tree before anybody has seen it, for LEDGER_PREPARED_NS: one
 * that is about to start. It goes by its UUID until its name is known.
 * @param uuid     not null
 * @param time_ns  CLOCK_MONOTONIC
 * @return 0 or -ENOMEM
 */
int ledger_prepare_vm(struct ledger *ledger, const uuid_t uuid, uint64_t time_ns);

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
 *                meters, the zones' baselines, and the VMs' tree_reads
 * @return 0 or -ENOMEM
 */
int ledger_snapshot(struct ledger *ledger, const struct zone_set *zones,
                    const struct sample *sample, uint64_t now, struct snapshot **ret);

/** Gives up the rows of VMs that ended LEDGER_KEEP_NS ago, and calls forget(id) for each. */
void ledger_expire(struct ledger *ledger, uint64_t now, void (*forget)(uint32_t id, void *userdata),
                   void *userdata);

/** What an image is stamped with. */
struct ledger_stamp {
    uint64_t sequence;
    uint64_t time_ns; /* CLOCK_MONOTONIC of the last interval's end */
    struct ledger_identity identity;
};

/**
 * All that a later daemon needs to continue where this one is.
 * @param sampler  the readings up to which energy has been entered
 * @param ret      replaced
 * @return 0 or -ENOMEM, then ret is as it was
 */
int ledger_save(const struct ledger *ledger, const struct sampler *sampler,
                const struct ledger_stamp *stamp, struct ledger_buffer *ret);

/**
 * Continues from an image that ledger_image_parse() accepted, before anything
 * is recorded. The VMs' trees stand at their totals: at or above what any guest
 * has seen. VMs that do not return keep their rows for LEDGER_KEEP_NS from now.
 * @param now  CLOCK_MONOTONIC
 * @return 0; -EBADMSG: two rows of one VM; -ENOMEM; then the ledger is empty
 */
int ledger_restore(struct ledger *ledger, const struct ledger_image *image, uint64_t now);
