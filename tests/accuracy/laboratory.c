/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "laboratory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "baseline/static_powers.h"
#include "ledger/ledger.h"
#include "util/clock.h"

#define INTERVAL_MS 1000
#define SETTLE_S 120 /* between the history and the window: clocks and heat settle */
#define WITHOUT_VMS_S 60

const char *const model_names[MODELS] = {
    [MODEL_CPUTIME] = "cputime",
    [MODEL_COUNTERS] = "counters",
    [MODEL_CURVE] = "curve",
};

/* One run's machinery. */
struct run {
    struct host *host;
    struct observer *observer;
    struct attribution_model *models[MODELS * BASELINES]; /* they learn: each ledger has its own */
    struct ledger *ledgers[MODELS * BASELINES];
    struct static_powers *learned[2]; /* for models that charge for CPU time, and for cycles */
    double without_vms_watts;
    struct result *result;
};

void require(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "laboratory: %s\n", what);
        abort();
    }
}

/* What an operator measures as static power before any VM is started. */
static double measure_without_vms(const struct machine *machine, uint64_t seed)
{
    struct host *host = host_new(machine, seed);
    double joules = 0;

    for (unsigned ms = 0; ms < WITHOUT_VMS_S * 1000; ms++)
        host_step(host);
    for (unsigned s = 0; s < machine->sockets; s++)
        joules += host->sockets[s].package_joules;
    host_free(host);
    return joules / WITHOUT_VMS_S;
}

/* Varied load of the same programs on all VMs, from quiet moments to a full machine. */
#define HISTORY_LOW (-0.1)
#define HISTORY_HIGH 0.9
#define HISTORY_SPREAD 0.7

static struct workload history_workloads[SPECS_MAX];

/* So many tasks in each VM that a level of 1 would fill the sockets where they may run. */
static unsigned history_tasks(const struct host *host, const struct scenario *scenario,
                              const struct vm_spec *spec)
{
    unsigned n_vms = 0, cpus = 0;

    for (unsigned s = 0; s < host->machine->sockets; s++)
        cpus += (spec->sockets >> s & 1) * host->n_cpus / host->machine->sockets;
    for (unsigned i = 0; i < SPECS_MAX; i++)
        n_vms += scenario->vms[i].sockets & spec->sockets ? scenario->vms[i].count : 0;
    return (cpus + n_vms - 1) / n_vms;
}

static void add_history(struct host *host, const struct scenario *scenario, double until_s)
{
    unsigned vm = 1;

    host->level_low = HISTORY_LOW;
    host->level_high = HISTORY_HIGH;
    host->level_spread = HISTORY_SPREAD;
    for (unsigned i = 0; i < SPECS_MAX && scenario->vms[i].count > 0; i++) {
        const struct vm_spec *spec = &scenario->vms[i];
        unsigned load = spec->loads[1].tasks > 0 ? 1 : 0;

        history_workloads[i] = *spec->loads[load].workload;
        history_workloads[i].burst_ms = 20;
        history_workloads[i].random = history_workloads[i].common = true;
        for (unsigned n = 0; n < spec->count; n++, vm++)
            host_add_tasks(host, vm, history_tasks(host, scenario, spec), &history_workloads[i],
                           spec->sockets, 0, until_s);
    }
}

static void start(struct run *run, const struct laboratory *laboratory,
                  const struct scenario *scenario)
{
    const struct machine *machine = &machines[scenario->machine];
    static const struct model_options options = MODEL_OPTIONS_DEFAULT;

    run->without_vms_watts = measure_without_vms(machine, laboratory->seed);
    run->host = host_new(machine, laboratory->seed);
    scenario_start(scenario, run->host, laboratory->history_s);
    add_history(run->host, scenario, laboratory->history_s);
    run->observer = observer_new(run->host, laboratory->seed + 1);
    for (unsigned i = 0; i < MODELS * BASELINES; i++) {
        struct ledger_config config = {.interval_ns = INTERVAL_MS * NSEC_PER_MSEC};

        require(attribution_model_open(model_names[i / BASELINES], &options, &run->models[i]) == 0,
                "no such model");
        config.model = run->models[i];
        require(ledger_new(&run->ledgers[i], &config) == 0, "out of memory");
    }
    for (unsigned by_cycles = 0; by_cycles < 2; by_cycles++)
        require(static_powers_new(&run->learned[by_cycles], NULL, 0,
                                  (struct static_power){.state = STATIC_LEARNING}, by_cycles) == 0,
                "out of memory");
}

static void finish(struct run *run)
{
    for (unsigned i = 0; i < MODELS * BASELINES; i++) {
        ledger_free(run->ledgers[i]);
        attribution_model_free(run->models[i]);
    }
    static_powers_free(run->learned[0]);
    static_powers_free(run->learned[1]);
    observer_free(run->observer);
    host_free(run->host);
}

static double true_static_watts(const struct run *run, const struct zone *zone)
{
    return zone->kind == ZONE_DRAM ? run->host->machine->dram_static_watts
                                   : run->host->sockets[zone->socket].static_watts;
}

static void record(struct run *run, const struct observation *observation)
{
    const struct zone_set *zones = observer_zones(run->observer);
    struct static_power known[ZONES_MAX] = {0};

    for (unsigned by_cycles = 0; by_cycles < 2; by_cycles++)
        require(static_powers_update(run->learned[by_cycles], zones, &observation->sample,
                                     &observation->usage) == 0,
                "out of memory");
    for (size_t slot = 0; slot < zones->n; slot++)
        known[slot].power_uw = (uint64_t)(true_static_watts(run, &zones->zones[slot]) * 1e6);
    for (unsigned i = 0; i < MODELS * BASELINES; i++)
        require(ledger_record(
                    run->ledgers[i], zones, &observation->sample, &observation->usage,
                    i % BASELINES == STATIC_KNOWN
                        ? known
                        : static_powers_by_slot(run->learned[run->models[i]->ops->by_cycles])) == 0,
                "out of memory");
}

static void ask_peers(struct run *run, const struct observation *observation)
{
    const struct zone_set *zones = observer_zones(run->observer);
    struct peer_input input = {.machine = run->host->machine,
                               .n_entities = run->host->n_entities,
                               .proc = &observation->proc,
                               .usage = &observation->usage};
    struct peer_output output;

    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct zone *zone = &zones->zones[slot];
        double joules = (double)observation->sample.zones[slot].energy_uj / 1e6;
        double joules_static = true_static_watts(run, zone) * observation->proc.seconds;

        if (zone->kind == ZONE_DRAM) {
            input.energy.dram[zone->socket] = joules;
            input.energy.dram_static[zone->socket] = joules_static;
        } else {
            input.energy.package[zone->socket] = joules;
            input.energy.package_static[zone->socket] = joules_static;
            run->result->measured_watts += joules / run->result->seconds;
        }
    }
    for (unsigned peer = 0; peer < PEERS; peer++) {
        struct vm_energy *told = run->result->told[contender_of_peer(peer)];

        output = (struct peer_output){0};
        peers[peer].attribute(&input, &output);
        for (unsigned e = 1; e < input.n_entities; e++) {
            told[e].package += output.package[e];
            told[e].dram += output.dram[e];
        }
    }
    for (unsigned s = 0; s < input.machine->sockets; s++)
        input.energy.package_static[s] =
            run->without_vms_watts / input.machine->sockets * observation->proc.seconds;
    output = (struct peer_output){0};
    peers[PEER_THESIS].attribute(&input, &output);
    for (unsigned e = 1; e < input.n_entities; e++)
        run->result->thesis_watts[e] += output.package[e] / run->result->seconds;
}

/* Adds the ledgers' totals with a sign: those at the end less those at the start. */
static void take_ledgers(struct run *run, double sign)
{
    const struct zone_set *zones = observer_zones(run->observer);

    for (unsigned i = 0; i < MODELS * BASELINES; i++) {
        struct sample sample = {.time_ns = run->host->time_us * 1000};
        struct snapshot *snapshot;

        require(ledger_snapshot(run->ledgers[i], zones, &sample, sample.time_ns, &snapshot) == 0,
                "out of memory");
        for (size_t slot = 0; slot < zones->n; slot++) {
            const struct snapshot_zone *zone = &snapshot->zones[slot];
            uint64_t sum = zone->host_uj + zone->static_uj + zone->unattributed_uj;

            for (unsigned e = 1; e <= snapshot->n_vms; e++) {
                double joules = (double)snapshot->vms[e - 1].dynamic_uj[slot] / 1e6;
                struct vm_energy *told = &run->result->told[i][e];

                *(zone->zone.kind == ZONE_DRAM ? &told->dram : &told->package) += sign * joules;
                sum += snapshot->vms[e - 1].dynamic_uj[slot];
            }
            require(sum == zone->measured_uj, "a ledger lost energy");
        }
        snapshot_free(snapshot);
    }
}

/* The same for the truth. */
static void take_truth(struct run *run, double sign)
{
    struct host *host = run->host;
    struct result *result = run->result;

    host_settle(host);
    for (unsigned s = 0; s < host->machine->sockets; s++) {
        const struct socket *socket = &host->sockets[s];
        double package = socket->static_package_joules, dram = socket->static_dram_joules;

        result->static_watts += sign * socket->static_package_joules / result->seconds;
        for (unsigned e = 0; e < host->n_entities; e++) {
            result->truth[e].package += sign * host->entities[e].package_joules[s];
            result->truth[e].dram += sign * host->entities[e].dram_joules[s];
            package += host->entities[e].package_joules[s];
            dram += host->entities[e].dram_joules[s];
        }
        require(fabs(package / socket->package_joules - 1) < 1e-9 &&
                    fabs(dram / socket->dram_joules - 1) < 1e-9,
                "the truth does not add up");
    }
}

static void advance(struct run *run, double until_s, bool window)
{
    while ((double)run->host->time_us < until_s * 1e6) {
        struct observation observation;

        for (unsigned ms = 0; ms < INTERVAL_MS; ms++)
            host_step(run->host);
        observer_read(run->observer, &observation);
        record(run, &observation);
        if (window)
            ask_peers(run, &observation);
        usage_deinit(&observation.usage);
    }
}

void laboratory_run(const struct laboratory *laboratory, const struct scenario *scenario,
                    struct result *ret)
{
    struct run run = {.result = ret};
    double from_s = laboratory->history_s + SETTLE_S;

    *ret = (struct result){.scenario = scenario, .seconds = laboratory->window_s};
    start(&run, laboratory, scenario);
    ret->n_vms = run.host->n_entities - 1;
    advance(&run, from_s, false);
    take_ledgers(&run, -1);
    take_truth(&run, -1);
    advance(&run, from_s + laboratory->window_s, true);
    take_ledgers(&run, 1);
    take_truth(&run, 1);
    for (size_t slot = 0; slot < observer_zones(run.observer)->n; slot++)
        if (observer_zones(run.observer)->zones[slot].kind == ZONE_PACKAGE)
            ret->learned_watts += (double)static_powers_get(run.learned[0], slot)->power_uw / 1e6;
    finish(&run);
}

bool result_has_dram(const struct result *result, unsigned contender)
{
    return machines[result->scenario->machine].has_dram &&
           (contender < MODELS * BASELINES || peers[contender - MODELS * BASELINES].dram);
}

static double vm_error(const struct result *result, unsigned contender, unsigned vm, bool dram)
{
    const struct vm_energy *told = &result->told[contender][vm], *truth = &result->truth[vm];

    return dram ? fabs(told->dram / truth->dram - 1) : fabs(told->package / truth->package - 1);
}

double result_error(const struct result *result, unsigned contender, bool dram)
{
    double sum = 0;

    for (unsigned vm = 1; vm <= result->n_vms; vm++)
        sum += vm_error(result, contender, vm, dram);
    return 100 * sum / result->n_vms;
}

double result_largest_error(const struct result *result, unsigned contender, bool dram)
{
    double largest = 0;

    for (unsigned vm = 1; vm <= result->n_vms; vm++)
        largest = fmax(largest, vm_error(result, contender, vm, dram));
    return 100 * largest;
}
