/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The formulas of the field, written anew from what their authors published.
 * Each is given what it would read itself.
 */

#include "observer.h"

/** One interval's energy, joules, by socket. */
struct peer_energy {
    double package[SOCKETS_SIM], dram[SOCKETS_SIM];
    double package_static[SOCKETS_SIM], dram_static[SOCKETS_SIM]; /* as its operator measured it */
};

struct peer_input {
    const struct machine *machine;
    unsigned n_entities;
    const struct proc_view *proc;
    const struct usage *usage; /* memory only */
    struct peer_energy energy;
};

/** What each VM is told, joules. */
struct peer_output {
    double package[ENTITIES_SIM], dram[ENTITIES_SIM];
};

struct peer {
    const char *name;
    const char *formula; /* in Markdown */
    const char *source;
    bool dram; /* it divides DRAM energy too */
    void (*attribute)(const struct peer_input *input, struct peer_output *ret);
};

enum peer_id {
    PEER_SCAPHANDRE,
    PEER_QEMU,
    PEER_THESIS,
    PEER_KEPLER,
    PEER_ENERGAT,
    PEERS,
};

extern const struct peer peers[PEERS];
