/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "scenario.h"

#include <stdlib.h>

const char *const group_names[GROUPS] = {
    [GROUP_THESIS_ONE] = "thesis: one node",
    [GROUP_THESIS_SEVERAL] = "thesis: several nodes",
    [GROUP_THESIS_CONTAINERS] = "thesis: container noise",
    [GROUP_THESIS_VMS] = "thesis: neighbour VMs",
    [GROUP_SOCKETS] = "uneven sockets",
    [GROUP_OVERCOMMIT] = "over-commitment",
    [GROUP_SMALL] = "small VMs",
    [GROUP_BURSTS] = "bursts of 5 ms",
    [GROUP_MEMORY] = "memory hogs",
    [GROUP_SMT] = "SMT pairs",
    [GROUP_MIXES] = "mixed programs",
    [GROUP_FREQUENCY] = "frequency on demand",
    [GROUP_INSTRUCTIONS] = "unlike instructions",
};

#define ALWAYS .duty_low = 1, .duty_high = 1, .level_s = 1e9
#define LOAD(load) .duty_low = (load), .duty_high = (load), .level_s = 1e9

/* stress-ng --cpu runs its methods in turn. */
static const struct workload stress = {.name = "stress",
                                       .mixes = {MIX_INTEGER, MIX_BRANCHY, MIX_FLOAT},
                                       .n_mixes = 3,
                                       .burst_ms = 40,
                                       ALWAYS};
/* What an idle node of a Kubernetes cluster, and an idle server, do by themselves. */
static const struct workload cluster = {.name = "idle cluster node",
                                        .mixes = {MIX_SERVER},
                                        .n_mixes = 1,
                                        .burst_ms = 3,
                                        .random = true,
                                        LOAD(0.11)};
static const struct workload quiet = {.name = "idle guest",
                                      .mixes = {MIX_SERVER},
                                      .n_mixes = 1,
                                      .burst_ms = 1,
                                      .random = true,
                                      LOAD(0.02)};
static const struct workload tiny = {
    .name = "1 %", .mixes = {MIX_SERVER}, .n_mixes = 1, .burst_ms = 2, .random = true, LOAD(0.01)};
static const struct workload web = {.name = "web server",
                                    .mixes = {MIX_SERVER},
                                    .n_mixes = 1,
                                    .burst_ms = 8,
                                    .random = true,
                                    .duty_low = 0.1,
                                    .duty_high = 0.7,
                                    .level_s = 15};
static const struct workload third = {
    .name = "30 %", .mixes = {MIX_SERVER}, .n_mixes = 1, .burst_ms = 20, .random = true, LOAD(0.3)};
#define PURE(identifier, mix)                                                                      \
    static const struct workload identifier = {                                                    \
        .name = #identifier, .mixes = {mix}, .n_mixes = 1, .burst_ms = 40, ALWAYS}
PURE(integer, MIX_INTEGER);
PURE(branchy, MIX_BRANCHY);
PURE(floating, MIX_FLOAT);
PURE(vector, MIX_VECTOR);
PURE(server, MIX_SERVER);
PURE(stream, MIX_STREAM);
PURE(random_access, MIX_RANDOM);
#define BURST(identifier, load)                                                                    \
    static const struct workload identifier = {                                                    \
        .name = #identifier, .mixes = {MIX_INTEGER}, .n_mixes = 1, .burst_ms = 5, LOAD(load)}
BURST(burst_5, 0.05);
BURST(burst_20, 0.2);
BURST(burst_50, 0.5);

/* clang-format off */
static const struct scenario own[] = {
    {.name = "four VMs, three on one socket", .group = GROUP_SOCKETS, .machine = MACHINE_XEON, .quick = true,
     .vms = {{1, 32, 1, 200, {{12, &server}}}, {1, 16, 1, 200, {{4, &server}}},
             {1, 16, 2, 200, {{2, &server}}}, {1, 16, 2, 200, {{4, &third}}}}},
    {.name = "one busy socket, one nearly idle", .group = GROUP_SOCKETS, .machine = MACHINE_XEON,
     .vms = {{2, 32, 1, 200, {{12, &server}}}, {2, 16, 2, 100, {{2, &quiet}}}}},
    {.name = "VMs over both sockets beside pinned ones", .group = GROUP_SOCKETS, .machine = MACHINE_XEON,
     .vms = {{2, 32, 3, 200, {{8, &web}}}, {2, 16, 1, 200, {{6, &server}}}, {1, 16, 2, 200, {{2, &web}}}}},

    {.name = "two vCPUs a CPU, all busy", .group = GROUP_OVERCOMMIT, .machine = MACHINE_XEON,
     .vms = {{8, 16, 3, 100, {{16, &server}}}}},
    {.name = "large and small VMs, three vCPUs a CPU", .group = GROUP_OVERCOMMIT, .machine = MACHINE_XEON,
     .vms = {{2, 32, 3, 100, {{64, &server}}}, {4, 8, 3, 100, {{12, &web}}}, {4, 4, 3, 100, {{4, &server}}}}},

    {.name = "twenty VMs of 1 % of a CPU beside two busy", .group = GROUP_SMALL, .machine = MACHINE_XEON,
     .vms = {{20, 4, 3, 50, {{1, &tiny}}}, {2, 32, 3, 200, {{8, &server}}}}},
    {.name = "ten idle VMs, nothing else", .group = GROUP_SMALL, .machine = MACHINE_XEON,
     .vms = {{10, 8, 3, 20, {{2, &quiet}}}}},

    {.name = "5 ms at 5, 20 and 50 % of a CPU", .group = GROUP_BURSTS, .machine = MACHINE_XEON,
     .vms = {{2, 8, 3, 50, {{2, &burst_5}}}, {2, 8, 3, 50, {{4, &burst_20}}}, {2, 8, 3, 50, {{4, &burst_50}}}}},
    {.name = "5 ms bursts beside steady load", .group = GROUP_BURSTS, .machine = MACHINE_XEON,
     .vms = {{4, 8, 1, 50, {{4, &burst_20}}}, {2, 16, 1, 100, {{4, &integer}}}}},

    {.name = "streaming and random access beside a server", .group = GROUP_MEMORY, .machine = MACHINE_XEON, .quick = true,
     .vms = {{1, 32, 1, 100, {{4, &stream}}}, {1, 32, 1, 100, {{4, &random_access}}}, {1, 32, 1, 100, {{4, &server}}}}},
    {.name = "a small hog beside large quiet VMs", .group = GROUP_MEMORY, .machine = MACHINE_XEON,
     .vms = {{1, 4, 3, 100, {{6, &stream}}}, {3, 64, 3, 50, {{4, &third}}}}},
    {.name = "memory bandwidth used up", .group = GROUP_MEMORY, .machine = MACHINE_XEON,
     .vms = {{2, 32, 1, 100, {{8, &stream}}}, {1, 32, 1, 100, {{4, &random_access}}}, {1, 16, 2, 100, {{6, &server}}}}},

    {.name = "one VM's cores half shared by another", .group = GROUP_SMT, .machine = MACHINE_XEON, .quick = true,
     .vms = {{1, 32, 1, 100, {{16, &server}}}, {1, 32, 1, 100, {{8, &server}}}}},
    {.name = "bursts on the siblings of a busy VM", .group = GROUP_SMT, .machine = MACHINE_XEON,
     .vms = {{1, 32, 1, 100, {{14, &server}}}, {2, 16, 1, 100, {{8, &third}}}}},

    {.name = "integer, branchy and server programs", .group = GROUP_MIXES, .machine = MACHINE_XEON,
     .vms = {{1, 16, 3, 100, {{6, &integer}}}, {1, 16, 3, 100, {{6, &branchy}}}, {1, 16, 3, 100, {{6, &server}}}}},
    {.name = "50 000 interrupts a second", .group = GROUP_MIXES, .machine = MACHINE_XEON,
     .vms = {{2, 16, 3, 25000, {{4, &web}}}, {2, 16, 3, 100, {{8, &server}}}}},
    {.name = "a day's mixture", .group = GROUP_MIXES, .machine = MACHINE_XEON,
     .vms = {{4, 16, 3, 500, {{4, &web}}}, {2, 16, 3, 100, {{4, &branchy}}}, {1, 32, 1, 100, {{4, &stream}}},
             {1, 16, 2, 100, {{6, &integer}}}, {6, 4, 3, 20, {{2, &quiet}}}}},

    {.name = "a fast core beside slow ones", .group = GROUP_FREQUENCY, .machine = MACHINE_SAVING, .quick = true,
     .vms = {{1, 16, 1, 100, {{4, &server}}}, {3, 16, 1, 100, {{4, &third}}}}},
    {.name = "web servers beside a busy VM", .group = GROUP_FREQUENCY, .machine = MACHINE_SAVING,
     .vms = {{4, 16, 3, 100, {{4, &web}}}, {1, 16, 3, 100, {{8, &integer}}}}},
    {.name = "VMs of 1 % beside two busy", .group = GROUP_FREQUENCY, .machine = MACHINE_SAVING,
     .vms = {{10, 4, 3, 50, {{1, &tiny}}}, {2, 32, 3, 200, {{8, &server}}}}},

    {.name = "vector beside integer instructions", .group = GROUP_INSTRUCTIONS, .machine = MACHINE_XEON, .quick = true,
     .vms = {{1, 16, 1, 100, {{6, &vector}}}, {1, 16, 1, 100, {{6, &integer}}}}},
    {.name = "vector, float, integer and branchy side by side", .group = GROUP_INSTRUCTIONS, .machine = MACHINE_XEON,
     .vms = {{1, 16, 3, 100, {{4, &vector}}}, {1, 16, 3, 100, {{4, &floating}}},
             {1, 16, 3, 100, {{4, &integer}}}, {1, 16, 3, 100, {{4, &branchy}}}}},
    {.name = "floating point beside branchy programs", .group = GROUP_INSTRUCTIONS, .machine = MACHINE_XEON,
     .vms = {{1, 16, 3, 100, {{6, &floating}}}, {1, 16, 3, 100, {{6, &branchy}}}}},
};
/* clang-format on */

#define N_OWN (sizeof(own) / sizeof(own[0]))

const struct scenario *scenarios;
size_t n_scenarios;

static enum group thesis_group(const struct thesis_point *point)
{
    if (point->neighbours > 0)
        return GROUP_THESIS_VMS;
    if (point->container[0] > 0)
        return GROUP_THESIS_CONTAINERS;
    return point->workers[1] > 0 ? GROUP_THESIS_SEVERAL : GROUP_THESIS_ONE;
}

/* The thesis' cluster of four VMs, 16 GiB each, and its neighbours, on its host. */
static struct scenario from_thesis(const struct thesis_point *point)
{
    struct scenario scenario = {.name = point->name,
                                .group = thesis_group(point),
                                .machine = MACHINE_EPYC,
                                .published = point,
                                .quick = point == &thesis_points[n_thesis_points - 1]};

    for (unsigned i = 0; i < THESIS_NODES; i++)
        scenario.vms[i] = (struct vm_spec){
            1,
            16,
            1,
            200,
            {{4, &cluster}, {point->workers[i], &stress}, {point->container[i], &stress}}};
    if (point->neighbours > 0)
        scenario.vms[THESIS_NODES] = (struct vm_spec){
            point->neighbours, 16, 1, 100, {{point->neighbour_workers, &stress}, {2, &quiet}}};
    return scenario;
}

void scenarios_init(void)
{
    struct scenario *all = calloc(n_thesis_points + N_OWN, sizeof(*all));

    if (!all)
        abort();
    for (size_t i = 0; i < n_thesis_points; i++)
        all[i] = from_thesis(&thesis_points[i]);
    for (size_t i = 0; i < N_OWN; i++)
        all[n_thesis_points + i] = own[i];
    scenarios = all;
    n_scenarios = n_thesis_points + N_OWN;
}

void scenario_start(const struct scenario *scenario, struct host *host, double start_s)
{
    for (const struct vm_spec *spec = scenario->vms; spec < scenario->vms + SPECS_MAX; spec++)
        for (unsigned i = 0; i < spec->count; i++) {
            unsigned vm = host_add_vm(host, spec->memory_gib, spec->sockets, spec->interrupts_hz);

            for (unsigned load = 0; load < LOADS_MAX; load++)
                if (spec->loads[load].tasks > 0)
                    host_add_tasks(host, vm, spec->loads[load].tasks, spec->loads[load].workload,
                                   spec->sockets, start_s, INFINITY);
        }
}
