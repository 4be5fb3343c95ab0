/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "source/sample.h"
#include "source/zone.h"

struct energy_source;

/** What a source of energy readings must do. One file implements it per source; see
    source/sources.h. */
struct energy_source_ops {
    const char *name; /* of its row in ENERGY_SOURCES: the source label of every metric */
    bool estimate;    /* true: no hardware behind the figures */

    /**
     * Reads all zones. A zone that fails is marked invalid and logged once;
     * the others go on.
     * @param ret  ZONES_MAX readings, by slot of the source's zones
     */
    void (*read)(struct energy_source *source, struct reading *ret);

    /** A descriptor that turns readable when zones appear or vanish, or -1. Optional. */
    int (*event_fd)(const struct energy_source *source);

    /** Adds zones that appeared, and notes those that vanished. Optional, together with event_fd.
     */
    void (*dispatch)(struct energy_source *source);

    void (*free)(struct energy_source *source);
};

/** The common head of every source; implementations embed it first. */
struct energy_source {
    const struct energy_source_ops *ops;
    struct zone_set zones; /* grows only */
};

/** Frees the source; NULL is accepted. @return NULL */
struct energy_source *energy_source_free(struct energy_source *source);
