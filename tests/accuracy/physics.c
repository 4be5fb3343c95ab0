/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "physics.h"

#include <math.h>

/*
 * Typical values of programs: instructions per cycle of 0.3 to 2.5 and 0.1 to
 * 40 lines per 1000 instructions span what SPEC CPU 2006 and 2017 show on x86.
 */
const struct mix mixes[MIXES] = {
    [MIX_INTEGER] = {"integer", 2.2, 1.00, 1.0, 0.05, 2, 0.62, 0.2, 0.95, 1.0},
    [MIX_BRANCHY] = {"branchy", 1.1, 1.10, 3.0, 0.30, 2, 0.68, 0.2, 0.95, 1.0},
    [MIX_FLOAT] = {"float", 1.7, 1.25, 2.0, 0.20, 3, 0.62, 0.3, 0.93, 1.0},
    [MIX_VECTOR] = {"vector", 1.9, 2.20, 2.0, 0.30, 4, 0.58, 0.3, 0.90, 0.95},
    [MIX_SERVER] = {"server", 1.3, 1.05, 12.0, 2.00, 3, 0.70, 0.25, 0.95, 1.0},
    [MIX_STREAM] = {"stream", 1.8, 1.10, 30.0, 25.0, 10, 0.80, 0.35, 0.88, 0.92},
    [MIX_RANDOM] = {"random", 1.2, 1.00, 40.0, 22.0, 4, 0.85, 0.20, 0.97, 1.08},
    [MIX_KERNEL] = {"kernel", 0.8, 1.10, 8.0, 1.00, 2, 0.72, 0.25, 0.95, 1.0},
};

const struct machine machines[MACHINES] = {
    [MACHINE_EPYC] = {.name = "1 x 64 cores",
                      .sockets = 1,
                      .cores = 64,
                      .threads = 2,
                      .min_ghz = 1.5,
                      .max_ghz = 3.5,
                      .all_ghz = 3.32,
                      .step_ghz = 0.025,
                      .min_volt = 0.75,
                      .max_volt = 1.10,
                      .limit_watts = 280,
                      .static_watts = 69,
                      .leak_watts = 12,
                      .cycle_nj = 0.397,
                      .instruction_nj = 0.204,
                      .core_leak_watts = 0.25,
                      .llc_nj = 0.8,
                      .uncore_line_nj = 4,
                      .dram_line_nj = 18,
                      .dram_static_watts = 30,
                      .bandwidth_gbs = 150,
                      .latency_ns = 95,
                      .kelvin_per_watt = 0.12,
                      .memory_gib = 1024,
                      .ambient_celsius = 26,
                      .daemons = 6,
                      .daemon_duty = 0.05,
                      .work_per_vm_duty = 0.20},
    [MACHINE_XEON] = {.name = "2 x 16 cores",
                      .sockets = 2,
                      .cores = 16,
                      .threads = 2,
                      .min_ghz = 1.2,
                      .max_ghz = 3.4,
                      .all_ghz = 2.8,
                      .step_ghz = 0.1,
                      .min_volt = 0.72,
                      .max_volt = 1.12,
                      .limit_watts = 150,
                      .static_watts = 26,
                      .leak_watts = 8,
                      .cycle_nj = 0.70,
                      .instruction_nj = 0.38,
                      .core_leak_watts = 0.5,
                      .llc_nj = 1.2,
                      .uncore_line_nj = 6,
                      .has_dram = true,
                      .dram_line_nj = 18,
                      .dram_static_watts = 9,
                      .bandwidth_gbs = 75,
                      .latency_ns = 85,
                      .kelvin_per_watt = 0.25,
                      .memory_gib = 256,
                      .ambient_celsius = 26,
                      .daemons = 4,
                      .daemon_duty = 0.04,
                      .work_per_vm_duty = 0.01},
    [MACHINE_SAVING] = {.name = "2 x 16 cores, frequency on demand",
                        .sockets = 2,
                        .cores = 16,
                        .threads = 2,
                        .min_ghz = 1.2,
                        .max_ghz = 3.4,
                        .all_ghz = 2.8,
                        .step_ghz = 0.1,
                        .min_volt = 0.72,
                        .max_volt = 1.12,
                        .on_demand = true,
                        .limit_watts = 150,
                        .static_watts = 26,
                        .leak_watts = 8,
                        .cycle_nj = 0.70,
                        .instruction_nj = 0.38,
                        .core_leak_watts = 0.5,
                        .llc_nj = 1.2,
                        .uncore_line_nj = 6,
                        .has_dram = true,
                        .dram_line_nj = 18,
                        .dram_static_watts = 9,
                        .bandwidth_gbs = 75,
                        .latency_ns = 85,
                        .kelvin_per_watt = 0.25,
                        .memory_gib = 256,
                        .ambient_celsius = 26,
                        .daemons = 4,
                        .daemon_duty = 0.04,
                        .work_per_vm_duty = 0.01},
    [MACHINE_SMALL] = {.name = "1 x 8 cores",
                       .sockets = 1,
                       .cores = 8,
                       .threads = 2,
                       .min_ghz = 1.2,
                       .max_ghz = 3.6,
                       .all_ghz = 3.2,
                       .step_ghz = 0.1,
                       .min_volt = 0.70,
                       .max_volt = 1.10,
                       .static_watts = 15,
                       .leak_watts = 5,
                       .cycle_nj = 0.60,
                       .instruction_nj = 0.33,
                       .core_leak_watts = 0.4,
                       .llc_nj = 1.0,
                       .uncore_line_nj = 5,
                       .has_dram = true,
                       .dram_line_nj = 18,
                       .dram_static_watts = 4,
                       .bandwidth_gbs = 38,
                       .latency_ns = 80,
                       .kelvin_per_watt = 0.35,
                       .memory_gib = 64,
                       .ambient_celsius = 26,
                       .daemons = 3,
                       .daemon_duty = 0.03,
                       .work_per_vm_duty = 0.01},
};

double physics_volts(const struct machine *machine, double ghz)
{
    return machine->min_volt + (machine->max_volt - machine->min_volt) * (ghz - machine->min_ghz) /
                                   (machine->max_ghz - machine->min_ghz);
}

double physics_leak_watts(const struct machine *machine, double celsius)
{
    return machine->leak_watts * exp(LEAK_PER_KELVIN * (celsius - LEAK_CELSIUS));
}

double physics_idle_celsius(const struct machine *machine, double ambient_celsius)
{
    double celsius = ambient_celsius;

    /* Temperature and leakage depend on each other; the feedback is weak and settles at once. */
    for (int i = 0; i < 20; i++)
        celsius =
            ambient_celsius + machine->kelvin_per_watt *
                                  (machine->static_watts + physics_leak_watts(machine, celsius));
    return celsius;
}

struct thread_step physics_thread(const struct machine *machine, const struct mix *mix, double ghz,
                                  double alone, double together, double latency_ns)
{
    double volts = physics_volts(machine, ghz);
    double stall = mix->lines_pki / 1000 * latency_ns * ghz / mix->mlp; /* cycles/instruction */
    double alone_cycles = ghz * 1e9 * alone, together_cycles = ghz * 1e9 * together;
    struct thread_step step = {.cycles = alone_cycles + together_cycles};
    double own_cycles = alone_cycles + together_cycles / 2;

    step.instructions = alone_cycles / (1 / mix->ipc + stall) +
                        together_cycles / (1 / (mix->ipc * mix->smt) + stall);
    step.lines = step.instructions * mix->lines_pki / 1000;
    step.llc_misses = step.lines * mix->counted;
    step.core_joules = volts * volts * 1e-9 *
                           (machine->cycle_nj * own_cycles +
                            machine->instruction_nj * mix->energy * step.instructions) +
                       machine->core_leak_watts * volts * volts * (alone + together / 2);
    step.uncore_joules = 1e-9 * (machine->llc_nj * mix->llc_pki / 1000 * step.instructions +
                                 machine->uncore_line_nj * (1 + mix->writeback) * step.lines);
    step.dram_joules =
        1e-9 * machine->dram_line_nj * mix->line_energy * (1 + mix->writeback) * step.lines;
    return step;
}
