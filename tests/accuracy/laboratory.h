/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Runs the models of the project and the formulas of the field over the same
 * scenario, each on what it can read, and compares what they say with the
 * truth.
 */

#include "peers.h"
#include "scenario.h"

enum model_id {
    MODEL_CPUTIME,
    MODEL_COUNTERS,
    MODEL_CURVE,
    MODELS,
};

extern const char *const model_names[MODELS];

/* Every model runs with each kind of baseline, every peer with the known one. */
enum baseline_kind {
    STATIC_KNOWN,
    STATIC_LEARNER,
    BASELINES,
};

#define CONTENDERS (MODELS * BASELINES + PEERS)

static inline unsigned contender_of_model(enum model_id model, enum baseline_kind static_power)
{
    return (unsigned)model * BASELINES + (unsigned)static_power;
}

static inline unsigned contender_of_peer(enum peer_id peer)
{
    return MODELS * BASELINES + (unsigned)peer;
}

/** Joules over the window. */
struct vm_energy {
    double package, dram;
};

struct result {
    const struct scenario *scenario;
    unsigned n_vms;
    double seconds;                       /* the window */
    struct vm_energy truth[ENTITIES_SIM]; /* by entity, 0 the host */
    struct vm_energy told[CONTENDERS][ENTITIES_SIM];
    double measured_watts;             /* all packages, as RAPL tells it */
    double static_watts;               /* the truth, all packages */
    double learned_watts;              /* at the end of the window */
    double thesis_watts[ENTITIES_SIM]; /* the thesis' formula with a static power measured as there:
                                          without VMs */
};

struct laboratory {
    double history_s; /* of varied load, for the learner, before each scenario's window */
    double window_s;
    uint64_t seed;
};

/** Ends the program when a condition does not hold. */
void require(bool good, const char *what);

/** Runs one scenario. Asserts that energy is conserved, in the truth and in every ledger. */
void laboratory_run(const struct laboratory *laboratory, const struct scenario *scenario,
                    struct result *ret);

/** Has this contender something to say about DRAM in this result? */
bool result_has_dram(const struct result *result, unsigned contender);

/** Mean over the VMs of the absolute percentage error, package or DRAM energy. */
double result_error(const struct result *result, unsigned contender, bool dram);

/** The largest of them. */
double result_largest_error(const struct result *result, unsigned contender, bool dram);
