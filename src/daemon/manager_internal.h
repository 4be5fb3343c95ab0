/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The manager's parts: it owns every object of the daemon. manager_assembly.c
 * makes and frees them, manager.c runs them, manager_platform.c connects the
 * meters with the platform's zone.
 */

#include <systemd/sd-event.h>

#include "baseline/static_powers.h"
#include "daemon/manager.h"
#include "daemon/usage_store.h"
#include "discovery/discovery.h"
#include "ledger/ledger.h"
#include "ledger/ledger_store.h"
#include "ledger/snapshot.h"
#include "meter/meter.h"
#include "platform/platform_store.h"
#include "platform/platform_zone.h"
#include "powercapfs/powercapfs.h"
#include "publish/control.h"
#include "publish/exporter.h"
#include "source/energy_source.h"
#include "source/sample.h"
#include "usage/usage.h"
#include "util/descriptors.h"

struct manager {
    struct config config;
    struct descriptors descriptors; /* handed over by the former daemon; while objects are made */
    sd_event *event;

    struct energy_source *source;
    struct meter *meters[PLATFORM_METERS_MAX]; /* of the whole machine, the best first */
    size_t n_meters;
    struct zone_set zones; /* the platform's, if there is a meter, then the source's */
    struct sampler sampler;
    struct sample sample; /* the last one entered in the ledger */
    struct discovery *discovery;
    struct vm_table vms;
    bool changes_lost; /* discovery has missed process changes that usage reported */
    struct usage_provider *usage;
    struct usage_store *usage_store;
    struct attribution_model *model;
    struct static_powers *static_powers;
    struct ledger *ledger;
    struct ledger_store *store;
    struct snapshot_board *board;
    struct powercapfs *powercapfs;
    struct exporter *exporter;
    struct control *control;

    struct manager_platform {
        struct platform *model; /* NULL: there is no meter */
        struct platform_store store;
        uint64_t end_ns; /* CLOCK_MONOTONIC of its last interval's end; 0: none */
        unsigned trusts_logged[PLATFORM_METERS_MAX]; /* bit per enum platform_trust: each is logged
                                                        once for each meter */
    } platform;

    struct manager_tick {
        sd_event_source *timer;
        uint64_t due_usec; /* CLOCK_MONOTONIC at which the next tick is due */
        int error;         /* of the last tick, as logged; 0: it succeeded */
        struct snapshot_health health;
    } tick;
};

/** Updates which VMs there are now. @return 0 or a negative errno */
int manager_refresh_vms(struct manager *manager, uint64_t time_ns);

/** Saves the ledger, then shows it. @return 0 or a negative errno, then what was shown stays */
int manager_publish(struct manager *manager);

/**
 * Measures and divides one interval, which begins at the last one's readings.
 * @return 0 or a negative errno, then the next interval covers this one as well
 */
int manager_tick(struct manager *manager);

/* Of manager_platform.c: */

/** The slot of the source's first zone. */
size_t manager_first_slot(const struct manager *manager);

/** Takes in the source's zones, whose number may have grown. */
void manager_update_zones(struct manager *manager);

/** Adds the platform's energy to the sample, and its static power, if they are known. */
void manager_advance_platform(struct manager *manager, const struct usage *usage);

/** Completes the snapshot by what is known of the meters. */
void manager_show_platform(const struct manager *manager, struct snapshot *snapshot);
