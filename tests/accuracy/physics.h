/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where the energy of the simulated machine goes. Nothing in here knows any
 * model of attribution.
 *
 *   core     V(f)^2 * (per cycle + per instruction), leakage while the core is not gated
 *   SMT      the cycles and the leakage of a core are spent once, however many of its
 *            threads run; two threads share them and the execution units
 *   uncore   energy per line moved between the last-level cache and memory, and per
 *            access to that cache
 *   memory   energy per line read or written, in the zone dram
 *   static   a constant and leakage that grows with the temperature of the die
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What a running thread does to the core. */
struct mix {
    const char *name;
    double ipc;         /* instructions per cycle, alone on its core, out of cache */
    double energy;      /* energy per instruction, relative to the machine's */
    double llc_pki;     /* accesses to the last-level cache per 1000 instructions */
    double lines_pki;   /* cache lines fetched from memory per 1000 instructions */
    double mlp;         /* fetches under way at once, which share one latency */
    double smt;         /* its speed while the sibling is busy, 1: not slowed */
    double writeback;   /* lines written to memory per line fetched */
    double counted;     /* part of the fetches that the PMU's LLC-miss event counts: hardware
                           prefetches are left out */
    double line_energy; /* energy per line relative to the machine's: row-buffer hits and misses */
};

enum mix_id {
    MIX_INTEGER,
    MIX_BRANCHY,
    MIX_FLOAT,
    MIX_VECTOR,
    MIX_SERVER,
    MIX_STREAM,
    MIX_RANDOM,
    MIX_KERNEL,
    MIXES,
};

extern const struct mix mixes[MIXES];

struct machine {
    const char *name;
    unsigned sockets;
    unsigned cores;   /* per socket */
    unsigned threads; /* per core */
    double min_ghz, max_ghz;
    double all_ghz;  /* highest with all cores busy */
    double step_ghz; /* P-states are multiples of it */
    double min_volt, max_volt;
    bool on_demand;      /* frequency follows each core's load, else always the highest */
    double limit_watts;  /* a socket's power limit; 0: none */
    double static_watts; /* of a package, but for the leakage */
    double leak_watts;   /* of a package at 50 degrees Celsius */
    double cycle_nj;     /* core, at 1 V */
    double instruction_nj;
    double core_leak_watts; /* of a core that is not power gated, at 1 V */
    double llc_nj;          /* per access to the last-level cache */
    double uncore_line_nj;  /* per line between cache and memory, in the package */
    double dram_line_nj;    /* per line, in the memory */
    bool has_dram;          /* there is a zone dram */
    double dram_static_watts;
    double bandwidth_gbs; /* of a socket's memory */
    double latency_ns;    /* of an idle memory */
    double kelvin_per_watt;
    double memory_gib;
    double ambient_celsius;
    unsigned daemons;        /* threads of the host's own */
    double daemon_duty;      /* each one's load */
    double work_per_vm_duty; /* load that each running VM causes in the host, such as vhost */
};

enum machine_id {
    MACHINE_EPYC,   /* that of the thesis */
    MACHINE_XEON,   /* two sockets with DRAM zones */
    MACHINE_SAVING, /* the same, with frequencies that follow the load */
    MACHINE_SMALL,  /* one socket, for long traces */
    MACHINES,
};

extern const struct machine machines[MACHINES];

/* Leakage grows by this per kelvin. */
#define LEAK_PER_KELVIN 0.012
#define LEAK_CELSIUS 50.0
#define THERMAL_SECONDS 25.0

/** Volts at a frequency: linear between the ends of the machine's range. */
double physics_volts(const struct machine *machine, double ghz);

/** Watts that leak through a package at a temperature. */
double physics_leak_watts(const struct machine *machine, double celsius);

/** The temperature of a package that has drawn its power for long. */
double physics_idle_celsius(const struct machine *machine, double ambient_celsius);

/** What a thread did in one step. */
struct thread_step {
    double cycles, instructions, lines, llc_misses; /* counts */
    double core_joules;                             /* its part of its core's */
    double uncore_joules;
    double dram_joules;
};

/**
 * One thread of a core in one step. The core's shared energy is divided
 * equally between the threads while both run.
 * @param alone       seconds in which it ran and its sibling did not
 * @param together    seconds in which both ran
 * @param latency_ns  of the memory now
 */
struct thread_step physics_thread(const struct machine *machine, const struct mix *mix, double ghz,
                                  double alone, double together, double latency_ns);
