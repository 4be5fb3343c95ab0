/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The manager's parts: it owns every object of the daemon. manager_assembly.c
 * makes and frees them, manager.c lets them work.
 */

#include <systemd/sd-event.h>

#include "attribution/baselines.h"
#include "attribution/ledger.h"
#include "attribution/ledger_store.h"
#include "attribution/platform.h"
#include "attribution/snapshot.h"
#include "daemon/manager.h"
#include "daemon/usage_store.h"
#include "discovery/discovery.h"
#include "publish/control.h"
#include "publish/exporter.h"
#include "publish/powercapfs.h"
#include "source/energy_source.h"
#include "source/meter.h"
#include "source/sample.h"
#include "usage/usage.h"
#include "util/descriptors.h"

struct manager {
    struct config config;
    struct descriptors descriptors; /* while the objects are made */
    sd_event *event;

    struct energy_source *source;
    struct meter *meters[PLATFORM_METERS_MAX]; /* of the whole machine, the best first */
    size_t n_meters;
    struct zone_set zones; /* the platform's, if there is a meter, then the source's */
    struct sampler sampler;
    struct sample sample; /* the last one recorded */
    struct discovery *discovery;
    struct vm_table vms;
    struct usage_provider *usage;
    struct usage_store *usage_store;
    bool changes_lost; /* discovery could not take in what usage told of processes */
    struct attribution_model *model;
    struct ledger *ledger;
    struct baselines *baselines;
    struct platform *platform; /* NULL: there is no meter */
    uint64_t platform_ns;      /* CLOCK_MONOTONIC of its last interval's end; 0: none */
    struct zone_baseline platform_baseline;
    unsigned trusts_logged[PLATFORM_METERS_MAX]; /* bit per enum platform_trust: each is
                                                    logged once */
    struct platform_estimate estimates_kept[PLATFORM_METERS_MAX];
    int estimates_error; /* of the last attempt to keep them, as logged; 0: it went well */
    struct ledger_store *store;
    struct snapshot_board *board;
    struct powercapfs *powercapfs;
    struct exporter *exporter;
    struct control *control;

    sd_event_source *timer;
    int tick_error;     /* of the last tick, as logged; 0: it went well */
    uint64_t tick_usec; /* CLOCK_MONOTONIC at which the current tick was due */
    struct snapshot_health health;
};

/** Takes in which VMs there are now. @return 0 or a negative errno */
int manager_refresh_vms(struct manager *manager, uint64_t time_ns);

/** Keeps the ledger, and shows it. @return 0 or a negative errno, then what was shown stays */
int manager_publish(struct manager *manager);

/**
 * Measures and divides one interval, from the readings of the last one on.
 * @return 0 or a negative errno; the next one covers it then
 */
int manager_tick(struct manager *manager);

/* Of manager_platform.c: */

/** The slot of the source's first zone. */
size_t manager_first_slot(const struct manager *manager);

/** Takes in the source's zones, which may have grown. */
void manager_update_zones(struct manager *manager);

/** Goes on with what a former daemon learned of these meters. */
void manager_restore_platform(struct manager *manager);

/** Completes the sample by the energy of the platform, if that is known. */
void manager_advance_platform(struct manager *manager, const struct usage *usage, uint64_t time_ns);

/** Keeps what was learned of the meters, when it has changed. A failure is logged once. */
void manager_keep_platform(struct manager *manager);

/** Completes the snapshot by what is known of the meters. */
void manager_show_platform(const struct manager *manager, struct snapshot *snapshot);
