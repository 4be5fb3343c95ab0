/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <stdio.h>

/* Every figure is computed here from the run; only the text around them is fixed. */

static void write_head(FILE *file)
{
    fputs("# Accuracy\n"
          "\n"
          "How close does virtjoule come to the energy that a VM really uses? No hardware can "
          "measure that: a\n"
          "counter measures sockets, not VMs. A simulated host knows the true energy of each VM, "
          "so virtjoule is\n"
          "tested on simulated hosts. `make accuracy` writes this page and its plots anew; the "
          "same source gives\n"
          "the same page, to the byte.\n"
          "\n"
          "**Read this first.** The figures are errors of division on a simulated machine with "
          "known physics. They\n"
          "show which loads each model can distinguish, and compare the models in the same run. "
          "They do not show\n"
          "how exact the energy counters of your machine are, and no simulation has every property "
          "of real silicon.\n"
          "\n",
          file);
}

static void write_limits(const struct results *results, const struct results *checks,
                         size_t n_checks, FILE *file)
{
    struct limit limits[LIMITS_MAX], others[LIMITS_MAX];
    size_t n = verdict_limits(results, limits);

    fputs("## In short\n\n| what | limit | figure |", file);
    for (size_t c = 0; c < n_checks; c++)
        fprintf(file, " seed %u |", (unsigned)checks[c].seed);
    fputs("\n| --- | ---: | ---: |", file);
    for (size_t c = 0; c < n_checks; c++)
        fputs(" ---: |", file);
    for (size_t i = 0; i < n; i++) {
        fprintf(file, "\n| %s | %g %s | %.2f |", limits[i].what, limits[i].limit, limits[i].unit,
                limits[i].value);
        for (size_t c = 0; c < n_checks; c++) {
            verdict_limits(&checks[c], others);
            fprintf(file, others[i].value <= limits[i].limit ? " %.2f |" : " **%.2f** |",
                    others[i].value);
        }
    }
    fprintf(file,
            "\n"
            "\n"
            "Errors are mean absolute percentage errors: each VM's attributed energy against the "
            "VM's true energy,\n"
            "over %.0f minutes; the mean over a scenario's VMs; the mean over %zu scenarios. An "
            "idle VM of a watt counts\n"
            "as much as a VM of a hundred watts. The figures, and all that follows, belong to the "
            "seed with which\n"
            "models and machines were developed; the run fails when one of the figures breaks its "
            "limit. The last\n"
            "columns have the same figures for seeds on which nothing was tried before: a figure "
            "that is **bold**\n"
            "there would break the limit.\n"
            "\n"
            "![Error of every model and formula](accuracy/contenders.png)\n"
            "\n",
            results->n > 0 ? results->scenarios[0].seconds / 60 : 0, results->n);
}

static void write_truth(FILE *file)
{
    fputs("## What is simulated\n"
          "\n"
          "A host with sockets, cores, SMT and frequency steps is simulated millisecond by "
          "millisecond. Threads of\n"
          "VMs run in bursts, wait for CPUs, and wander over cores as the load balancer moves "
          "them; host daemons,\n"
          "work that VMs cause in the host and device interrupts run between them. The counters "
          "are 32 bits wide\n"
          "and wrap in every run; when they are read, they are up to a millisecond old and blurred "
          "by up to 20 mJ.\n"
          "The daemon's own code reads the counters from a powercap tree. Only the clock is "
          "replaced: an hour takes\n"
          "seconds.\n"
          "\n"
          "A thread's energy is, with V rising linearly with f,\n"
          "\n"
          "- in its core: `V^2 * (per cycle + per instruction * its kind)` and leakage while the "
          "core is awake.\n"
          "  Two SMT siblings share the cycles and the leakage, and slow each other down;\n"
          "- in the package: accesses to the last-level cache, and every line moved to or from "
          "memory;\n"
          "- in the memory: every line read or written.\n"
          "\n"
          "More busy cores lower the frequency (turbo steps); so do the socket's power limit and, "
          "on the machine\n"
          "`frequency on demand`, light load. Memory answers later the more of its bandwidth is "
          "used. Leakage grows\n"
          "with the temperature, which follows the power.\n"
          "\n"
          "**The true energy of a VM** is the energy that those components spend because the VM "
          "runs. Two siblings\n"
          "get half each of what they share. The leakage that the load's heat adds is divided by "
          "the heat that each\n"
          "entity brought in. The energy of interrupts is the host's, wherever interrupts strike; "
          "the kernel counts\n"
          "their time to the VM that was interrupted. All other energy is static: it is what the "
          "machine would draw\n"
          "with no load. The parts sum up to what the counters measure: every run asserts this, "
          "and asserts that no\n"
          "ledger loses energy.\n"
          "\n",
          file);
}

static void write_machines(FILE *file)
{
    fputs("| | ", file);
    for (unsigned m = 0; m < MACHINES; m++)
        fprintf(file, "%s | ", machines[m].name);
    fputs("\n| --- |", file);
    for (unsigned m = 0; m < MACHINES; m++)
        fputs(" ---: |", file);
#define ROW(label, format, ...)                                                                    \
    fputs("\n| " label " |", file);                                                                \
    for (const struct machine *m = machines; m < machines + MACHINES; m++)                         \
    fprintf(file, " " format " |", __VA_ARGS__)
    ROW("frequency, GHz", "%.1f to %.1f, all cores %.2f", m->min_ghz, m->max_ghz, m->all_ghz);
    ROW("voltage, V", "%.2f to %.2f", m->min_volt, m->max_volt);
    ROW("energy of a cycle at 1 V, nJ", "%.3f", m->cycle_nj);
    ROW("energy of an instruction at 1 V, nJ", "%.3f", m->instruction_nj);
    ROW("leakage of an awake core at 1 V, W", "%.2f", m->core_leak_watts);
    ROW("cache access; line in the package, nJ", "%.1f; %.1f", m->llc_nj, m->uncore_line_nj);
    ROW("line in the memory, nJ", "%.0f", m->dram_line_nj);
    ROW("static power of a package: constant + leakage at 50 C, W", "%.0f + %.0f", m->static_watts,
        m->leak_watts);
    ROW("static power of its memory, W", "%.0f", m->dram_static_watts);
    ROW("power limit of a socket, W", "%.0f", m->limit_watts);
#undef ROW
    fputs("\n"
          "\n"
          "Where the values come from. Static power, power of a worker and the 280 W limit of the "
          "64-core machine:\n"
          "the thesis' one-node series and the EPYC 7773X's specification; the other series were "
          "looked at when the\n"
          "machine's clock was set. The form `C V^2 f` and voltages: Le Sueur and Heiser, "
          "\"Dynamic Voltage and Frequency\n"
          "Scaling: The Laws of Diminishing Returns\", HotPower 2010; frequencies of cores of "
          "their own, and those\n"
          "under load: Hackenberg et al., \"An Energy Efficiency Feature Survey of the Intel "
          "Haswell Processor\",\n"
          "IPDPSW 2015. That kinds of instructions differ by factors: Molka et al., "
          "\"Characterizing the Energy\n"
          "Consumption of Data Transfers and Arithmetic Operations on x86-64 Processors\", IGCC "
          "2010. SMT: two\n"
          "threads together reach some 1.25 times one thread's speed (Marr et al., "
          "\"Hyper-Threading Technology\n"
          "Architecture and Microarchitecture\", Intel Technology Journal 6, 2002) and do not draw "
          "twice the power\n"
          "(Zhai et al., \"HaPPy\", USENIX ATC 2014). Memory: Micron TN-40-07 and Vogelsang, "
          "\"Understanding the Energy\n"
          "Consumption of Dynamic Random Access Memories\", MICRO 2010, give some tens of pJ a "
          "bit. What no paper\n"
          "gives for such machines was set to the order of magnitude that makes their packages' "
          "published powers\n"
          "come out: energy per cycle and instruction, leakage, its 1.2 % per kelvin, thermal "
          "resistance. No energy\n"
          "was set by looking at a model's error; the governor of the two-socket machine and the "
          "time constant of the\n"
          "die were set after such a look.\n"
          "\n"
          "| programs | instructions per cycle | energy per instruction | lines per 1000 "
          "instructions | counted as misses | speed beside a sibling |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: |\n",
          file);
    for (const struct mix *mix = mixes; mix < mixes + MIXES; mix++)
        fprintf(file, "| %s | %.1f | %.2f | %.2f | %.0f %% | %.2f |\n", mix->name, mix->ipc,
                mix->energy, mix->lines_pki, 100 * mix->counted, mix->smt);
    fputs("\n", file);
}

static void write_cell(FILE *file, double error)
{
    if (isnan(error))
        fputs(" |", file);
    else if (error < 10)
        fprintf(file, " %.2f |", error);
    else
        fprintf(file, " %.0f |", error);
}

static void write_row(const struct results *results, FILE *file, const char *name, enum group group,
                      bool dram)
{
    fprintf(file, "| %s |", name);
    for (unsigned contender = 0; contender < CONTENDERS; contender++)
        write_cell(file, mean_error(results, contender, group, dram));
    fputs("\n", file);
}

static void write_table(const struct results *results, FILE *file, bool dram)
{
    fputs("| scenarios |", file);
    for (unsigned model = 0; model < MODELS; model++)
        fprintf(file, " %s | learned |", model_names[model]);
    for (unsigned peer = 0; peer < PEERS; peer++)
        fprintf(file, " %s |", peers[peer].name);
    fputs("\n| --- |", file);
    for (unsigned contender = 0; contender < CONTENDERS; contender++)
        fputs(" ---: |", file);
    fputs("\n", file);
    for (unsigned group = 0; group < GROUPS; group++)
        if (!isnan(mean_error(results, 0, group, dram)))
            write_row(results, file, group_names[group], group, dram);
    write_row(results, file, "**all**", GROUPS, dram);
    fputs("\n", file);
}

static void write_errors(const struct results *results, FILE *file)
{
    fputs("## Package energy: error per VM, %\n"
          "\n"
          "The first columns are the models of virtjoule, each with the true static power, and "
          "with the static\n"
          "power that the model learned from ten minutes of varied load before the scenario "
          "(\"learned\"). The other\n"
          "columns are the formulas of the field, on the same counters, with the true static power "
          "wherever a\n"
          "formula needs one.\n"
          "\n",
          file);
    write_table(results, file, false);
    fputs("![Error by group of scenarios](accuracy/groups.png)\n\n"
          "## DRAM energy: error per VM, %\n\n",
          file);
    write_table(results, file, true);
    fputs("Where cache misses are counted, the models divide DRAM energy by the misses, spread "
          "over the sockets\n"
          "like the VM's memory. The error that remains is traffic that is not counted (hardware "
          "prefetches,\n"
          "write-backs).\n"
          "\n"
          "The formulas:\n"
          "\n"
          "| name | formula | after |\n"
          "| --- | --- | --- |\n",
          file);
    for (unsigned peer = 0; peer < PEERS; peer++)
        fprintf(file, "| %s | %s | %s |\n", peers[peer].name, peers[peer].formula,
                peers[peer].source);
    fputs("\n"
          "Scaphandre and QEMU give a VM its share of the machine's capacity, static energy "
          "included: that is right\n"
          "by their own definition, but this share is not the VM's dynamic energy. EnergAt's "
          "powers are made for\n"
          "one tenant; the shares of several tenants do not add up to the whole.\n"
          "\n",
          file);
}

static void write_scenarios(const struct results *results, FILE *file)
{
    unsigned known = contender_of_model(MODEL_COUNTERS, STATIC_KNOWN);
    unsigned learned = contender_of_model(MODEL_COUNTERS, STATIC_LEARNER);

    fputs(
        "## Every scenario\n"
        "\n"
        "The error of package energy per VM, in %, and the error of the worst VM with `counters`.\n"
        "\n"
        "| scenario | VMs | W measured | static W | learned W | counters | worst VM | learned | "
        "cputime | thesis |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        file);
    for (size_t i = 0; i < results->n; i++) {
        const struct result *result = &results->scenarios[i];

        if (result->scenario->published)
            fprintf(file, "| %s, %s |", group_names[result->scenario->group],
                    result->scenario->name);
        else
            fprintf(file, "| %s |", result->scenario->name);
        fprintf(file, " %u | %.1f | %.1f | %.1f |", result->n_vms, result->measured_watts,
                result->static_watts, result->learned_watts);
        write_cell(file, result_error(result, known, false));
        write_cell(file, result_largest_error(result, known, false));
        write_cell(file, result_error(result, learned, false));
        write_cell(file,
                   result_error(result, contender_of_model(MODEL_CPUTIME, STATIC_KNOWN), false));
        write_cell(file, result_error(result, contender_of_peer(PEER_THESIS), false));
        fputs("\n", file);
    }
    fputs("\n", file);
}

static void write_thesis(const struct results *results, FILE *file)
{
    fputs("## Is the simulator believable?\n"
          "\n"
          "M. H\xc3\xb6sel, \"Measuring Energy Consumption in Virtualized Kubernetes Clusters\" "
          "(master thesis, Hochschule\n"
          "M\xc3\xbcnchen, 2025), measured a 64-core EPYC host with four cluster VMs and up to "
          "four neighbours under\n"
          "`stress-ng`, and published the power that the thesis' formula gave the VMs. Here the "
          "same formula runs on\n"
          "the simulated host, with the static power measured as in the thesis: with no VM "
          "running. The one-node series\n"
          "(0 to 128 workers) set the machine's constants, and the other series set the machine's "
          "clock under full load\n"
          "(by a percent). The spread is two standard deviations of the package power, the "
          "attribution, the static power\n"
          "and the idle VMs' power together, each as reported in the thesis.\n"
          "\n"
          "| experiment | RAPL W, thesis | simulated | VMs W, thesis | spread | simulated | |\n"
          "| --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
          file);
    for (size_t i = 0; i < results->n; i++) {
        const struct result *result = &results->scenarios[i];
        const struct thesis_point *point = result->scenario->published;
        double sum = thesis_sum(result);

        if (point)
            fprintf(file, "| %s, %s | %.1f | %.1f | %.1f | %.1f | %.1f | %s |\n",
                    group_names[result->scenario->group] + sizeof("thesis:"), point->name,
                    point->rapl_watts, result->measured_watts, point->attributed_watts,
                    thesis_spread_watts(point), sum,
                    fabs(sum - point->attributed_watts) <= thesis_spread_watts(point)
                        ? "within"
                        : "**outside**");
    }
    fputs("\n![Published and simulated](accuracy/thesis.png)\n\n", file);
}

static void write_trace_row(FILE *file, const struct trace *trace, const struct trace_result *seeds,
                            unsigned n_seeds)
{
    for (unsigned seed = 0; seed < n_seeds; seed++) {
        const struct trace_result *result = &seeds[seed];
        const struct trace_point *early = &result->points[LEARN_S - 1];
        const struct trace_point *last = &result->points[result->n - 1];

        fprintf(file, "| %s | %u | %.1f | %.1f | %s | %.1f | %.1f | %s |\n", trace->name, seed + 1,
                early->static_watts, early->learned_watts, static_state_to_string(early->state),
                last->static_watts, last->learned_watts, static_state_to_string(last->state));
    }
}

static void write_baseline(const struct results *results, FILE *file)
{
    fputs("## Learning the static power\n"
          "\n"
          "A host with VMs is never idle, so the host's static power cannot be measured; it is "
          "learned from how the power\n"
          "follows the load (`auto` in `[baseline]`). The table is of package 0, in watts:\n"
          "\n"
          "| trace | seed | true after 10 min | learned | state | true at the end | learned | "
          "state |\n"
          "| --- | ---: | ---: | ---: | --- | ---: | ---: | --- |\n",
          file);
    for (unsigned trace = 0; trace < TRACES; trace++)
        write_trace_row(file, &traces[trace], results->traces[trace], results->n_seeds);
    fputs("\n"
          "![The learned static power](accuracy/baseline.png)\n"
          "\n"
          "At constant load nothing distinguishes static from dynamic power. The learner reports "
          "this as\n"
          "`not-identifiable`; the static power that was learned before stays, and if none was "
          "learned, the least\n"
          "power seen is static. In both cases every measured joule is in the ledger once.\n"
          "\n",
          file);
}

static void write_platform(const struct results *results, FILE *file)
{
    fprintf(file,
            "## The whole machine\n"
            "\n"
            "A small host draws %.0f W + %.1f x RAPL + %.0f J per GB of block I/O. A meter shows "
            "this power in whole watts, late, and\n"
            "measures it anew at the intervals below; the meter is read every 5 s. The table has "
            "the errors of the VMs' dynamic\n"
            "energy of the zone `platform` over %d minutes, after %d minutes of learning, by "
            "`counters` with learned static powers:\n"
            "\n"
            "| meter late by s | updates every s | mean, %% | worst VM, %% | all of the machine's "
            "energy, %% | a, W | b | J per GB | lateness found, s |\n"
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
            PLATFORM_STATIC_WATTS, PLATFORM_SLOPE, PLATFORM_IO_JOULES * 1e9,
            PLATFORM_WINDOW_MINUTES, PLATFORM_LEARN_MINUTES);
    for (unsigned i = 0; i < PLATFORM_CASES; i++) {
        const struct platform_result *result = &results->platform[i];

        fprintf(file, "| %u | %u | %.2f | %.2f | %.2f | %.1f | %.3f | %.1f | %.1f |\n",
                platform_cases[i].delay_s, platform_cases[i].update_s, result->mean_error,
                result->largest_error, result->sum_error, result->static_watts, result->slope,
                result->io_joules * 1e9, result->delay_s);
    }
    fputs("\n"
          "The rows of the ledger add up to the zone's energy to the microjoule; the run fails if "
          "they do not.\n"
          "\n",
          file);
}

static void write_insight(const struct results *results, FILE *file)
{
    const enum group seen[] = {GROUP_MEMORY, GROUP_MIXES, GROUP_FREQUENCY, GROUP_INSTRUCTIONS};

    fputs("## What each model can and cannot see\n\n| | cputime | counters |\n| --- | ---: | ---: "
          "|\n",
          file);
    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
        fprintf(
            file, "| %s | %.2f %% | %.2f %% |\n", group_names[seen[i]],
            mean_error(results, contender_of_model(MODEL_CPUTIME, STATIC_KNOWN), seen[i], false),
            mean_error(results, contender_of_model(MODEL_COUNTERS, STATIC_KNOWN), seen[i], false));
    fputs("\n"
          "- **cputime** sees how long a VM ran, on which socket, and beside which siblings. This "
          "model is right\n"
          "  where VMs run similar programs at similar frequencies, as on most servers under the "
          "`performance`\n"
          "  governor. It does not see that a core waits for memory, nor the core's frequency: "
          "where the frequency\n"
          "  follows each core's load, too much energy is attributed to a lightly loaded VM.\n"
          "- **counters** sees cycles, instructions and cache misses, and learns the energy of "
          "each of them on this\n"
          "  host from the host's own counters, as long as the VMs' loads vary by themselves. On a "
          "host that was\n"
          "  always at constant load this model has only published coefficients. It knows an "
          "entity's mean\n"
          "  frequency over an interval, but not that the entity began each burst slowly: with "
          "frequencies on\n"
          "  demand the energy of small VMs is still wrong by some 10 %.\n"
          "- **curve** divides by a concave power curve; this model is not meant for hosts with a "
          "power that is\n"
          "  nearly a straight line.\n"
          "- **No model sees** that an instruction of one program takes more energy than an "
          "instruction of another\n"
          "  program at the same number per cycle (vector against integer code), accesses that end "
          "in the\n"
          "  last-level cache, how long ago a VM heated the die, and interrupts that strike a "
          "running VM. For such\n"
          "  programs side by side, the worst VM of the table above shows what to expect.\n"
          "- Without a PMU (most clouds' nested hosts) only `cputime` is available, and DRAM "
          "energy is divided by\n"
          "  resident memory.\n"
          "\n",
          file);
}

void report_write(const struct results *results, const struct results *checks, size_t n_checks,
                  const char *directory)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/accuracy.md", directory);
    file = fopen(path, "we");
    require(file, "cannot write the report");
    write_head(file);
    write_limits(results, checks, n_checks, file);
    write_errors(results, file);
    write_insight(results, file);
    write_thesis(results, file);
    write_baseline(results, file);
    write_platform(results, file);
    write_scenarios(results, file);
    write_truth(file);
    write_machines(file);
    require(fclose(file) == 0, "cannot write the report");
}
