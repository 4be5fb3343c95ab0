/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "../lib/thesis.h"
#include "host.h"

#define LOADS_MAX 3
#define SPECS_MAX 8

/** A number of VMs alike. */
struct vm_spec {
    unsigned count;
    double memory_gib;
    unsigned sockets; /* bit per socket on which they run and have their memory */
    double interrupts_hz;
    struct {
        unsigned tasks;
        const struct workload *workload;
    } loads[LOADS_MAX];
};

enum group {
    GROUP_THESIS_ONE,
    GROUP_THESIS_SEVERAL,
    GROUP_THESIS_CONTAINERS,
    GROUP_THESIS_VMS,
    GROUP_SOCKETS,
    GROUP_OVERCOMMIT,
    GROUP_SMALL,
    GROUP_BURSTS,
    GROUP_MEMORY,
    GROUP_SMT,
    GROUP_MIXES,
    GROUP_FREQUENCY,
    GROUP_INSTRUCTIONS, /* energy per instruction differs, which no counter tells */
    GROUPS,
};

extern const char *const group_names[GROUPS];

struct scenario {
    const char *name;
    enum group group;
    enum machine_id machine;
    struct vm_spec vms[SPECS_MAX];
    const struct thesis_point *published; /* what the thesis measured, or NULL */
    bool quick;                           /* part of the short run */
};

/** All scenarios; those of the thesis come first. */
extern const struct scenario *scenarios;
extern size_t n_scenarios;

/** Makes the table. */
void scenarios_init(void);

/** Adds the scenario's VMs, which begin their loads at a time and stay for ever. */
void scenario_start(const struct scenario *scenario, struct host *host, double start_s);
