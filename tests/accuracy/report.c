/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <stdio.h>

/* Every figure is computed here from the run; only the text around them is fixed. */

static void write_head(FILE *file)
{
    fputs("# Accuracy\n\n"
          "How near does virtjoule come to the energy that a VM really uses? No hardware can tell: "
          "a counter\nmeasures sockets, not VMs. So the question is put to a simulated host, which "
          "knows. `make accuracy`\nwrites this page and its plots anew; the same source gives the "
          "same page, to the byte.\n\n"
          "**Read this first.** These are errors of division on a simulated machine with known "
          "physics. They\nsay which models can tell what from what, and compare them in the same "
          "run. They do not say how\nexact the energy counters of your machine are, and no "
          "simulation has all that real silicon has.\n\n",
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
            "\n\nErrors are mean absolute percentage errors: each VM's attributed energy against "
            "its true one, over\n%.0f minutes; the mean over a scenario's VMs; the mean over %zu "
            "scenarios. An idle VM of a watt counts as\nmuch as one of a hundred. The figures, and "
            "all that follows, are of the seed with which models and\nmachines were developed; the "
            "run fails when one of them breaks its limit. The last columns are the same\nwith "
            "seeds that nothing was tried on before: what is **bold** there would break the limit."
            "\n\n![Error of every model and formula](accuracy/contenders.png)\n\n",
            results->n > 0 ? results->scenarios[0].seconds / 60 : 0, results->n);
}

static void write_truth(FILE *file)
{
    fputs(
        "## What is simulated\n\n"
        "Milliseconds of a host with sockets, cores, SMT and frequency steps. VMs' threads run in "
        "bursts, wait\nfor CPUs, wander over cores as the load balancer moves them; host daemons, "
        "work that VMs cause in the\nhost and device interrupts run between them. The counters are "
        "32 bits wide and wrap in every run;\nthey are up to a millisecond old and blurred by up "
        "to "
        "20 mJ when read. They are read by the daemon's\nown code from a powercap tree. Only the "
        "clock is replaced: an hour takes seconds.\n\n"
        "A thread's energy is, with V rising linearly with f,\n\n"
        "- in its core: `V^2 * (per cycle + per instruction * its kind)` and leakage while the "
        "core "
        "is awake.\n  Two SMT siblings share the cycles and the leakage, and slow each other "
        "down;\n"
        "- in the package: accesses to the last-level cache, and every line moved to or from "
        "memory;\n"
        "- in the memory: every line read or written.\n\n"
        "More busy cores lower the frequency (turbo steps); so do the socket's power limit and, on "
        "the machine\n`frequency on demand`, light load. Memory answers later the more of its "
        "bandwidth is used. Leakage grows\nwith the temperature, which follows the power.\n\n"
        "**The true energy of a VM** is what those components spend because it runs. Of what two "
        "siblings share\neach gets half. The leakage that the load's heat adds is divided by the "
        "heat that each brought in.\nInterrupts are the host's, wherever they strike; the kernel "
        "counts their time to the VM that was\ninterrupted. All else is static: what the machine "
        "would draw with no load. The parts sum up to what the\ncounters measure, which every run "
        "asserts, as it asserts of each ledger that nothing is lost.\n\n",
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
          "the thesis' one-node series and the EPYC 7773X's specification; its other series were "
          "looked at when its\n"
          "clock was set. The form `C V^2 f` and voltages: Le Sueur and Heiser, \"Dynamic Voltage "
          "and Frequency\n"
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
          "was set by looking at a model's error; the two-socket machine got its governor, and the "
          "die its time\n"
          "constant, after one.\n"
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
    fputs(
        "## Package energy: error per VM, %\n\n"
        "The models of virtjoule, each with the true static power known to it and with the one it "
        "learned by itself\nfrom ten minutes of varied load before the scenario (\"learned\"); "
        "then "
        "the formulas of the field, on the\nsame counters, with the true static power wherever "
        "they ask for one.\n\n",
        file);
    write_table(results, file, false);
    fputs("![Error by group of scenarios](accuracy/groups.png)\n\n"
          "## DRAM energy: error per VM, %\n\n",
          file);
    write_table(results, file, true);
    fputs("Where cache misses are counted the models divide DRAM energy by them, spread over the "
          "sockets like the VM's\nmemory. Traffic that is not counted (hardware prefetches, "
          "write-backs) is what remains as error.\n\n"
          "The formulas:\n\n| name | formula | after |\n| --- | --- | --- |\n",
          file);
    for (unsigned peer = 0; peer < PEERS; peer++)
        fprintf(file, "| %s | %s | %s |\n", peers[peer].name, peers[peer].formula,
                peers[peer].source);
    fputs(
        "\nScaphandre and QEMU give a VM its share of the machine's capacity, static energy "
        "included: by their own\ndefinition that is right, and it is not the VM's dynamic energy. "
        "EnergAt's powers are made for one tenant and\ndo not add up over several.\n\n",
        file);
}

static void write_scenarios(const struct results *results, FILE *file)
{
    unsigned known = contender_of_model(MODEL_COUNTERS, STATIC_KNOWN);
    unsigned learned = contender_of_model(MODEL_COUNTERS, STATIC_LEARNER);

    fputs(
        "## Every scenario\n\nError per VM, %, package energy; and of the worst VM with "
        "`counters`.\n\n| scenario | VMs | W measured | static W | learned W | counters | worst VM "
        "| learned | cputime | thesis |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | "
        "---: | ---: |\n",
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
    fputs(
        "## Is the simulator believable?\n\n"
        "M. H\xc3\xb6sel, \"Measuring Energy Consumption in Virtualized Kubernetes Clusters\" "
        "(master thesis, Hochschule\nM\xc3\xbcnchen, 2025), measured a 64-core EPYC host with four "
        "cluster VMs and up to four neighbours under\n`stress-ng`, and published what its formula "
        "gave the VMs. Here the same formula runs on the simulated\nhost, with the static power "
        "measured as there: with no VM running. The one-node series (0 to 128 workers)\nset the "
        "machine's constants, and the others its clock under full load (by a percent). The spread "
        "is two standard deviations "
        "of the\npackage power, the attribution, the static power and the idle VMs' power "
        "together, each as the thesis reports\nit.\n\n"
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
    fputs(
        "## Learning the static power\n\n"
        "A host with VMs is never idle, so its static power cannot be measured; it is learned "
        "from how the power\nfollows the load (`baseline = auto`). Package 0, watts:\n\n"
        "| trace | seed | true after 10 min | learned | state | true at the end | learned | state "
        "|\n| --- | ---: | ---: | ---: | --- | ---: | ---: | --- |\n",
        file);
    for (unsigned trace = 0; trace < TRACES; trace++)
        write_trace_row(file, &traces[trace], results->traces[trace], results->n_seeds);
    fputs("\n![The learned static power](accuracy/baseline.png)\n\n"
          "On a constant load nothing tells static from dynamic power. The learner says so; what "
          "it knew before stays,\nand if it knew nothing the whole energy counts as dynamic. "
          "Either way every joule measured is in the ledger\nonce.\n\n",
          file);
}

static void write_platform(const struct results *results, FILE *file)
{
    fprintf(
        file,
        "## The whole machine\n\n"
        "A small host draws %.0f W + %.1f x RAPL + %.0f J per GB of block I/O. A meter shows it "
        "in whole watts, late, and\nmeasures anew every so often; it is read every 5 s. After "
        "%d minutes of learning the VMs' dynamic energy of the\nzone `platform` over %d minutes, "
        "by `counters` with learned static powers, is off by:\n\n"
        "| meter late by s | updates every s | mean, %% | worst VM, %% | all of the machine's "
        "energy, %% | a, W | b | J per GB | lateness found, s |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        PLATFORM_STATIC_WATTS, PLATFORM_SLOPE, PLATFORM_IO_JOULES * 1e9, PLATFORM_LEARN_MINUTES,
        PLATFORM_WINDOW_MINUTES);
    for (unsigned i = 0; i < PLATFORM_CASES; i++) {
        const struct platform_result *result = &results->platform[i];

        fprintf(file, "| %u | %u | %.2f | %.2f | %.2f | %.1f | %.3f | %.1f | %.1f |\n",
                platform_cases[i].delay_s, platform_cases[i].update_s, result->mean_error,
                result->largest_error, result->sum_error, result->static_watts, result->slope,
                result->io_joules * 1e9, result->delay_s);
    }
    fputs("\nThe rows of the ledger add up to the zone's energy to the microjoule; the run fails "
          "where they do not.\n\n",
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
    fputs(
        "\n- **cputime** sees how long a VM ran, on which socket, and beside which siblings. It "
        "holds where VMs run alike\n  programs at like frequencies, as on most servers under the "
        "`performance` governor. It does not see that a\n  core waits for memory, nor its "
        "frequency: where that follows each core's load, a lightly loaded VM is told too\n  much.\n"
        "- **counters** sees cycles, instructions and cache misses, and learns what each of them "
        "takes on this host from\n  the host's own counters, as long as the VMs' loads vary by "
        "themselves. On a host that was always at constant\n  load it has only published "
        "coefficients. It knows an entity's mean frequency over an interval, not that it\n  began "
        "each burst slowly: with frequencies on demand small VMs are still some 10 % off.\n"
        "- **curve** divides by a concave power curve; it is not meant for hosts whose power is "
        "nearly a straight line.\n"
        "- **Nobody sees** that an instruction of one program takes more than one of another at "
        "the same number per\n  cycle (vector against integer code), accesses that end in the "
        "last-level cache, how long ago a VM heated the\n  die, and interrupts that strike a "
        "running VM. Where such programs run side by side the worst VM of the table\n  above shows "
        "what to expect.\n"
        "- Without a PMU (most clouds' nested hosts) there is `cputime` only, and DRAM energy goes "
        "by resident memory.\n",
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
