/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The simulated host: tasks on CPUs in steps of a millisecond, the energy that
 * they use (physics.h), and what the kernel would count of it.
 *
 * The truth. A VM's energy is what the components spend because it runs: its
 * instructions, its cycles, its lines from memory. A core's cycles and leakage
 * are divided equally between its threads while both run. The heat of the load
 * makes the package leak more than it would at idle; that is divided by the
 * heat that each entity brought in. Interrupts are the host's, wherever they
 * strike. All else is static: what the machine would draw with no load at its
 * present ambient temperature. So the entities' energy and the static energy
 * sum up to the zone's, in every step.
 */

#include "../lib/random.h"
#include "physics.h"
#include "usage/usage.h"

#define STEP_US 1000
#define HZ 250          /* timer interrupts per second: CONFIG_HZ of Debian */
#define USER_HZ 100     /* unit of /proc/PID/stat */
#define SOCKETS_SIM 2   /* sockets of the largest machine */
#define ENTITIES_SIM 64 /* the host and its VMs */
#define ALL_SOCKETS 3u  /* bits of a mask of sockets */

/** How a task loads its CPU. */
struct workload {
    const char *name;
    enum mix_id mixes[3]; /* in turn, a burst each */
    unsigned n_mixes;
    double burst_ms;            /* length of a burst */
    bool random;                /* bursts are exponentially distributed, else all alike */
    double duty_low, duty_high; /* load: bursts as part of the time; 1: no sleep */
    double level_s;             /* mean time for which a load in that range stays */
    bool common;                /* the load follows host.common_level and the entity's instead */
};

enum task_state {
    TASK_SLEEPING,
    TASK_WAITING,
    TASK_RUNNING,
};

struct task {
    unsigned entity;
    unsigned sockets; /* bit per socket on which it may run */
    const struct workload *workload;
    double from_us, until_us;
    enum task_state state;
    int cpu; /* where it runs or last ran; -1: nowhere yet */
    unsigned mix_turn;
    double wake_us;
    double burst_us; /* left of this burst */
    double slice_us; /* used of this time slice */
    double duty;
    double level_until_us;
    double exec_us; /* all it ran */
};

struct cpu {
    struct task *task;
    double interrupt_us; /* spent in interrupts in this step */
    double tick_phase;   /* when in its step the timer strikes, 0 to 1 */
};

/** What an entity used on one socket; the members of struct usage_socket as real numbers. */
struct used {
    double cpu_us, corun_us, cycles, instructions, llc_misses;
};

/** 0 is the host, the others are VMs. */
struct entity {
    double memory_bytes[SOCKETS_SIM]; /* on each socket's node */
    double on_node[SOCKETS_SIM];      /* the same as parts of its memory */
    double interrupts_hz;             /* of its devices */
    double level;                     /* its load relative to the common one */
    struct used used[SOCKETS_SIM];
    double package_joules[SOCKETS_SIM]; /* the truth, by zone */
    double dram_joules[SOCKETS_SIM];
    double heat_watts[SOCKETS_SIM]; /* that it puts into the package, as the die sees it */
    double heat_joules[SOCKETS_SIM];
};

struct socket {
    double package_joules, dram_joules; /* all, as the hardware would measure it */
    double static_package_joules, static_dram_joules;
    double static_watts; /* present truth */
    double leak_watts;   /* that the load's heat adds */
    double limit_ghz;    /* set by the power limit */
    double power_watts;  /* as the limit sees it */
    double limited_joules;
    double lines; /* moved since the last control */
    double latency_ns;
    struct task **queue; /* ring of waiting tasks */
    unsigned queue_head, queue_n;
};

struct host {
    const struct machine *machine;
    struct random random;
    uint64_t time_us;
    uint64_t settled_us;
    double ambient_celsius;
    double level_low, level_high; /* range of the common level */
    double level_spread;          /* the entities' own levels are 1 +- this */
    double common_level;
    double common_until_us;
    unsigned n_entities;
    struct entity entities[ENTITIES_SIM];
    unsigned n_tasks;
    struct task *tasks;
    unsigned n_cpus;
    struct cpu *cpus;
    unsigned n_cores;
    double *core_ghz;
    double *core_load; /* as the governor sees it, 0 to 1 */
    unsigned *core_busy_steps;
    struct socket sockets[SOCKETS_SIM];
    double busy_ticks[SOCKETS_SIM]; /* user, nice and system of /proc/stat, in timer ticks */
    double interrupt_ticks;         /* irq and softirq */
};

/** @param seed  the same seed gives the same host, step for step. Aborts without memory. */
struct host *host_new(const struct machine *machine, uint64_t seed);
struct host *host_free(struct host *host);

/** @return its number, or 0 when there are too many. */
unsigned host_add_vm(struct host *host, double memory_gib, unsigned sockets, double interrupts_hz);

/** Adds tasks to an entity that live from one time to another, in seconds. */
void host_add_tasks(struct host *host, unsigned entity, unsigned n, const struct workload *workload,
                    unsigned sockets, double from_s, double until_s);

/** One millisecond. */
void host_step(struct host *host);

/** Brings the entities' energy up to date with the zones', which it trails by some leakage. */
void host_settle(struct host *host);

static inline unsigned host_socket_of(const struct host *host, int cpu)
{
    return (unsigned)cpu / (host->machine->cores * host->machine->threads);
}

/* schedule.c */

/** Wakes tasks and gives every CPU its task for the coming step. */
void schedule_tasks(struct host *host);

/** Takes what ran in the step off the tasks' bursts. */
void schedule_account(struct host *host);

/** How long a CPU's task runs in this step, microseconds. */
static inline double schedule_run_us(const struct cpu *cpu)
{
    if (!cpu->task)
        return 0;
    return cpu->task->burst_us < STEP_US ? cpu->task->burst_us : STEP_US;
}
