/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "peers.h"

/* EnergAt's defaults. */
#define GAMMA 0.3
#define DELTA 0.2

static double sum(const double *values, unsigned n)
{
    double total = 0;

    for (unsigned i = 0; i < n; i++)
        total += values[i];
    return total;
}

static double busy_s(const struct peer_input *input)
{
    return sum(input->proc->busy_s, input->machine->sockets);
}

static double capacity_s(const struct peer_input *input)
{
    const struct machine *machine = input->machine;

    return machine->sockets * machine->cores * machine->threads * input->proc->seconds;
}

static double memory_bytes(const struct peer_input *input, unsigned entity, unsigned socket)
{
    return (double)usage_entity(input->usage, entity)->sockets[socket].memory_bytes;
}

static double ratio(double part, double all)
{
    return all > 0 ? part / all : 0;
}

static double above_zero(double value)
{
    return value > 0 ? value : 0;
}

static void scaphandre(const struct peer_input *input, struct peer_output *ret)
{
    double energy = sum(input->energy.package, input->machine->sockets);

    for (unsigned e = 1; e < input->n_entities; e++)
        ret->package[e] = energy * ratio(input->proc->process_s[e], capacity_s(input));
}

static void qemu(const struct peer_input *input, struct peer_output *ret)
{
    double capacity = capacity_s(input) / input->machine->sockets;

    for (unsigned e = 1; e < input->n_entities; e++) {
        ret->package[e] = 0;
        for (unsigned s = 0; s < input->machine->sockets; s++)
            ret->package[e] +=
                input->energy.package[s] * ratio(input->proc->thread_s[e][s], capacity);
    }
}

static void thesis(const struct peer_input *input, struct peer_output *ret)
{
    unsigned n = input->machine->sockets;
    double package =
        above_zero(sum(input->energy.package, n) - sum(input->energy.package_static, n));
    double dram = above_zero(sum(input->energy.dram, n) - sum(input->energy.dram_static, n));
    double memory = 0;

    for (unsigned e = 0; e < input->n_entities; e++)
        for (unsigned s = 0; s < n; s++)
            memory += memory_bytes(input, e, s);
    for (unsigned e = 1; e < input->n_entities; e++) {
        double own = 0;

        for (unsigned s = 0; s < n; s++)
            own += memory_bytes(input, e, s);
        ret->package[e] = package * ratio(input->proc->process_s[e], busy_s(input));
        ret->dram[e] = dram * ratio(own, memory);
    }
}

static void kepler(const struct peer_input *input, struct peer_output *ret)
{
    unsigned n = input->machine->sockets;
    double active = ratio(busy_s(input) + input->proc->interrupt_s, capacity_s(input));
    double all = sum(input->proc->process_s, input->n_entities);

    for (unsigned e = 1; e < input->n_entities; e++) {
        double share = active * ratio(input->proc->process_s[e], all);

        ret->package[e] = share * sum(input->energy.package, n);
        ret->dram[e] = share * sum(input->energy.dram, n);
    }
}

static void energat(const struct peer_input *input, struct peer_output *ret)
{
    for (unsigned e = 1; e < input->n_entities; e++) {
        ret->package[e] = ret->dram[e] = 0;
        for (unsigned s = 0; s < input->machine->sockets; s++) {
            const struct peer_energy *energy = &input->energy;
            double memory = 0;

            for (unsigned other = 0; other < input->n_entities; other++)
                memory += memory_bytes(input, other, s);
            ret->package[e] +=
                above_zero(energy->package[s] - energy->package_static[s]) *
                pow(fmin(1, ratio(input->proc->thread_s[e][s], input->proc->busy_s[s])), GAMMA);
            ret->dram[e] += above_zero(energy->dram[s] - energy->dram_static[s]) *
                            pow(ratio(memory_bytes(input, e, s), memory), DELTA);
        }
    }
}

const struct peer peers[PEERS] = {
    [PEER_SCAPHANDRE] = {"Scaphandre", "`E * t_vm / (CPUs * time)`, all sockets together",
                         "Scaphandre's documentation, \"How scaphandre computes per process power "
                         "consumption\"",
                         false, scaphandre},
    [PEER_QEMU] = {"QEMU rapl", "`sum over sockets of E_s * t_vm,s / (CPUs_s * time)`",
                   "QEMU, docs/specs/rapl-msr.rst, \"Ratio calculation\"", false, qemu},
    [PEER_THESIS] = {"thesis",
                     "`(E - S) * t_vm / t_busy`, all sockets together; DRAM by resident memory",
                     "the thesis, equations 4.4 to 4.6 and 4.9", true, thesis},
    [PEER_KEPLER] = {"Kepler", "`E * (t_busy / (CPUs * time)) * t_vm / t_processes`, every zone",
                     "Kepler 0.10, docs/developer/power-attribution-guide.md", true, kepler},
    [PEER_ENERGAT] = {"EnergAt",
                      "`sum over sockets of (E_s - S_s) * (t_vm,s / t_busy,s)^0.3`; DRAM "
                      "`(memory_vm,s / memory_s)^0.2`",
                      "H\xc3\xa8, Friedman and Rekatsinas, \"EnergAt: Fine-Grained Energy "
                      "Attribution for Multi-Tenancy\", HotCarbon 2023, and its README",
                      true, energat},
};
