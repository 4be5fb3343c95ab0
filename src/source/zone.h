/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A host has a handful of zones: 8 packages with core, uncore and dram, and psys, make 33. */
#define ZONES_MAX 64
#define ZONE_NAME_MAX 32

/* Processor packages of a host: their numbers are below. */
#define PACKAGES_MAX 16

enum zone_kind {
    ZONE_PACKAGE,
    ZONE_CORE,
    ZONE_UNCORE,
    ZONE_DRAM,
    ZONE_PSYS,
};
#define ZONE_KINDS (ZONE_PSYS + 1)

/** The zone belongs to no single socket: its weights are taken over all of them. */
#define ZONE_ALL_SOCKETS (-1)

/**
 * One energy counter of the host.
 *
 * The name is the zone's identity in the configuration, the metrics and the
 * ledger: the kernel's own for packages and psys ("package-0",
 * "package-0-die-1", "psys"); for a subzone the kernel's name, followed by
 * its package's number where that is not 0 ("dram" in package-0, "dram-1" in
 * package-1, "dram-0-die-1" in package-0-die-1).
 */
struct zone {
    char name[ZONE_NAME_MAX];
    enum zone_kind kind;
    int socket;             /* physical package id, or ZONE_ALL_SOCKETS */
    uint64_t max_energy_uj; /* the counter runs from 0 to this value, then wraps; > 0 */
    const char *source;     /* static: where its energy comes from; NULL: the source of its set */
};

/** Zones by slot. A slot keeps its zone while the daemon runs, also when the zone vanishes. */
struct zone_set {
    size_t n;
    struct zone zones[ZONES_MAX];
};
