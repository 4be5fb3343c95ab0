/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform.h"

#include <stdlib.h>
#include <string.h>

#include "baseline/static_powers.h"
#include "laboratory.h"
#include "ledger/ledger.h"
#include "platform/platform_zone.h"
#include "trace.h"
#include "util/clock.h"

#define PLATFORM_VMS 4
#define POLL_S 5
#define PAST_S 64
#define IO_MAX 1e9 /* bytes per second of one VM */

const struct platform_case platform_cases[PLATFORM_CASES] = {
    {0, 1}, {10, 1}, {20, 1}, {0, 7}, {10, 7}, {20, 7}, {0, 30}, {10, 30}, {20, 30},
};

/* One meter, and the part of the daemon that depends on it, as daemon/manager.c runs it. */
struct pipeline {
    struct zone_set zones;
    struct sample sample;
    struct static_powers *static_powers;
    struct platform *platform;
    struct attribution_model *model;
    struct ledger *ledger;
    struct platform_reading reading;
    uint64_t end_ns; /* of the last interval; 0: none */
    double shown_watts;
    double joules[PLATFORM_VMS + 1]; /* told, by entity; of the window at the end */
    double platform_joules;
};

/* The host, with what the laboratory adds to it. */
struct world {
    struct host *host;
    struct observer *observer;
    struct random random;
    double io[PLATFORM_VMS + 1];     /* bytes per second, by entity */
    double past_watts[PAST_S];       /* of the whole machine, by second */
    double joules[PLATFORM_VMS + 1]; /* truth, by entity */
    double platform_joules, rapl_joules;
    unsigned second;
};

static void world_init(struct world *world, uint64_t seed)
{
    struct host *host = host_new(&machines[MACHINE_SMALL], seed);

    *world = (struct world){.host = host, .random.state = seed + 2};
    host->level_low = 0.05;
    host->level_high = 0.9;
    host->level_spread = 0.5;
    for (unsigned i = 0; i < PLATFORM_VMS; i++) {
        unsigned vm = host_add_vm(host, 8, ALL_SOCKETS, 100);

        host_add_tasks(host, vm, host->n_cpus / PLATFORM_VMS, &trace_load, ALL_SOCKETS, 0,
                       INFINITY);
    }
    world->observer = observer_new(host, seed + 1);
}

static void set_zones(struct pipeline *pipeline, const struct world *world)
{
    const struct zone_set *zones = observer_zones(world->observer);

    pipeline->zones.n = PLATFORM_SLOT + 1 + zones->n;
    pipeline->zones.zones[PLATFORM_SLOT] = platform_zone(true);
    memcpy(&pipeline->zones.zones[PLATFORM_SLOT + 1], zones->zones,
           zones->n * sizeof(*zones->zones));
}

static void pipeline_init(struct pipeline *pipeline, const struct world *world)
{
    static const struct model_options options = MODEL_OPTIONS_DEFAULT;
    struct ledger_config config = {.interval_ns = NSEC_PER_SEC, .source = "rapl"};

    require(platform_new(&pipeline->platform, 1) == 0, "out of memory");
    set_zones(pipeline, world);
    require(static_powers_new(&pipeline->static_powers, NULL, 0,
                              (struct static_power){.state = STATIC_LEARNING}, true) == 0 &&
                static_powers_add_zones(pipeline->static_powers, &pipeline->zones) == 0,
            "out of memory");
    static_powers_set(pipeline->static_powers, PLATFORM_SLOT, &(struct static_power){0});
    require(attribution_model_open("counters", &options, &pipeline->model) == 0, "no such model");
    config.model = pipeline->model;
    require(ledger_new(&pipeline->ledger, &config) == 0, "out of memory");
}

static void pipeline_deinit(struct pipeline *pipeline)
{
    platform_free(pipeline->platform);
    static_powers_free(pipeline->static_powers);
    ledger_free(pipeline->ledger);
    attribution_model_free(pipeline->model);
}

/* Of everybody, by entity, since the host began. */
static void sum_truth(struct world *world)
{
    struct host *host = world->host;

    host_settle(host);
    for (unsigned e = 0; e <= PLATFORM_VMS; e++)
        for (unsigned s = 0; s < host->machine->sockets; s++)
            world->joules[e] += PLATFORM_SLOPE * (host->entities[e].package_joules[s] +
                                                  host->entities[e].dram_joules[s]);
}

/* One second of the host, whose VMs' disks come and go. */
static void world_step(struct world *world)
{
    struct host *host = world->host;
    double rapl = 0, io = 0, watts;

    for (unsigned ms = 0; ms < 1000; ms++)
        host_step(host);
    for (unsigned s = 0; s < host->machine->sockets; s++)
        rapl += host->sockets[s].package_joules + host->sockets[s].dram_joules;
    for (unsigned e = 1; e <= PLATFORM_VMS; e++) {
        if (random_uniform(&world->random, 0, 1) < 0.03)
            world->io[e] = IO_MAX * random_uniform(&world->random, 0, 1);
        io += world->io[e];
        world->joules[e] += PLATFORM_IO_JOULES * world->io[e];
    }
    watts = PLATFORM_STATIC_WATTS + PLATFORM_SLOPE * (rapl - world->rapl_joules) +
            PLATFORM_IO_JOULES * io;
    world->rapl_joules = rapl;
    world->platform_joules += watts;
    world->past_watts[world->second++ % PAST_S] = watts;
}

static void read_meter(struct pipeline *pipeline, const struct platform_case *meter,
                       const struct world *world)
{
    if (world->second < PAST_S)
        return;
    if (world->second % meter->update_s == 0)
        pipeline->shown_watts =
            round(world->past_watts[(world->second - 1 - meter->delay_s) % PAST_S]);
    if (world->second % POLL_S == 0 && pipeline->shown_watts > 0)
        pipeline->reading =
            (struct platform_reading){.time_ns = world->host->time_us * 1000,
                                      .power_uw = (uint64_t)(pipeline->shown_watts * 1e6),
                                      .resolution_uw = 1000000};
}

static void advance_platform(struct pipeline *pipeline, const struct usage *usage, uint64_t time_ns)
{
    const struct platform_zone_input input = {
        .zones = &pipeline->zones,
        .usage = usage,
        .readings = &pipeline->reading,
        .static_powers = static_powers_by_slot(pipeline->static_powers),
        .duration_ns = time_ns - pipeline->end_ns,
    };
    struct platform_zone_result result;
    bool is_first = pipeline->end_ns == 0;

    pipeline->end_ns = time_ns;
    if (is_first || !platform_zone_advance(pipeline->platform, &input, &pipeline->sample, &result))
        return;
    static_powers_set(pipeline->static_powers, PLATFORM_SLOT, &result.static_power);
    ledger_set_platform(pipeline->ledger, PLATFORM_SLOT, result.io_pj_per_byte);
}

static void tick(struct pipeline *pipeline, const struct observation *observation, uint64_t time_ns)
{
    const struct usage *usage = &observation->usage;

    pipeline->sample = (struct sample){.time_ns = time_ns};
    memcpy(&pipeline->sample.zones[PLATFORM_SLOT + 1], observation->sample.zones,
           (pipeline->zones.n - 1) * sizeof(*pipeline->sample.zones));
    advance_platform(pipeline, usage, time_ns);
    require(ledger_record(pipeline->ledger, &pipeline->zones, &pipeline->sample, usage,
                          static_powers_by_slot(pipeline->static_powers)) == 0 &&
                static_powers_update(pipeline->static_powers, &pipeline->zones, &pipeline->sample,
                                     usage) == 0,
            "out of memory");
}

static void advance(struct world *world, struct pipeline *pipelines, unsigned seconds)
{
    for (unsigned i = 0; i < seconds; i++) {
        struct observation observation;

        world_step(world);
        observer_read(world->observer, &observation);
        for (unsigned e = 1; e < usage_n_entities(&observation.usage); e++)
            observation.usage.vms[e - 1].amount.io_bytes = (uint64_t)world->io[e];
        for (unsigned c = 0; c < PLATFORM_CASES; c++) {
            read_meter(&pipelines[c], &platform_cases[c], world);
            tick(&pipelines[c], &observation, world->host->time_us * 1000);
        }
        usage_deinit(&observation.usage);
    }
}

/* Adds the ledger's totals with a sign: those at the end less those at the start. */
static void take_ledger(struct pipeline *pipeline, const struct world *world, double sign)
{
    const struct snapshot_zone *zone;
    struct snapshot *snapshot;
    uint64_t sum;

    require(ledger_snapshot(pipeline->ledger, &pipeline->zones, &pipeline->sample,
                            world->host->time_us * 1000, &snapshot) == 0,
            "out of memory");
    zone = &snapshot->zones[0];
    sum = zone->host_uj + zone->static_uj + zone->unattributed_uj;
    for (unsigned e = 1; e <= snapshot->n_vms; e++) {
        pipeline->joules[e] += sign * (double)snapshot->vms[e - 1].dynamic_uj[0] / 1e6;
        sum += snapshot->vms[e - 1].dynamic_uj[0];
    }
    require(sum == zone->measured_uj, "a ledger lost energy of the platform");
    pipeline->platform_joules += sign * (double)zone->measured_uj / 1e6;
    snapshot_free(snapshot);
}

static struct platform_result compare(const struct pipeline *pipeline, const struct world *world)
{
    const struct platform_estimate estimate = platform_get_meter(pipeline->platform, 0)->estimate;
    struct platform_result result = {
        .sum_error = 100 * fabs(pipeline->platform_joules / world->platform_joules - 1),
        .static_watts = estimate.static_watts,
        .slope = estimate.slope,
        .io_joules = estimate.io_joules_per_byte,
        .delay_s = estimate.delay_s + estimate.window_s / 2,
    };

    for (unsigned e = 1; e <= PLATFORM_VMS; e++) {
        double error = 100 * fabs(pipeline->joules[e] / world->joules[e] - 1);

        result.mean_error += error / PLATFORM_VMS;
        result.largest_error = fmax(result.largest_error, error);
    }
    return result;
}

void platform_run(uint64_t seed, struct platform_result ret[PLATFORM_CASES])
{
    struct pipeline *pipelines = calloc(PLATFORM_CASES, sizeof(*pipelines));
    struct world world;

    require(pipelines, "out of memory");
    world_init(&world, seed);
    for (unsigned c = 0; c < PLATFORM_CASES; c++)
        pipeline_init(&pipelines[c], &world);
    advance(&world, pipelines, PLATFORM_LEARN_MINUTES * 60);
    for (unsigned c = 0; c < PLATFORM_CASES; c++)
        take_ledger(&pipelines[c], &world, -1);
    memset(world.joules, 0, sizeof(world.joules));
    sum_truth(&world);
    for (unsigned e = 0; e <= PLATFORM_VMS; e++)
        world.joules[e] = -world.joules[e];
    world.platform_joules = 0;
    advance(&world, pipelines, PLATFORM_WINDOW_MINUTES * 60);
    sum_truth(&world);
    for (unsigned c = 0; c < PLATFORM_CASES; c++) {
        take_ledger(&pipelines[c], &world, 1);
        ret[c] = compare(&pipelines[c], &world);
        pipeline_deinit(&pipelines[c]);
    }
    free(pipelines);
    observer_free(world.observer);
    host_free(world.host);
}
