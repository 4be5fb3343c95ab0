/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "trace.h"

#include "baseline/static_powers.h"
#include "laboratory.h"

#define TRACE_VMS 4

const struct trace traces[TRACES] = {
    [TRACE_NEVER_IDLE] = {"20 to 90 %, never idle", MACHINE_SMALL, 1200, 0.22, 0.88, 0.1, 0, 0},
    [TRACE_NEVER_IDLE_SERVER] = {"20 to 90 %, never idle, two sockets", MACHINE_XEON, 1200, 0.22,
                                 0.88, 0.1, 0, 0},
    [TRACE_DRIFT] = {"20 to 90 %, the cooling fails", MACHINE_SMALL, 7200, 0.22, 0.88, 0.1, 20, 0},
    [TRACE_CONSTANT] = {"constant load", MACHINE_SMALL, 1800, 0.5, 0.5, 0, 0, 0},
    [TRACE_CONSTANT_LATER] = {"varied for ten minutes, then constant", MACHINE_SMALL, 3600, 0.22,
                              0.88, 0.1, 0, 600},
};

const struct workload trace_load = {.name = "trace",
                                    .mixes = {MIX_SERVER, MIX_INTEGER, MIX_BRANCHY},
                                    .n_mixes = 3,
                                    .burst_ms = 20,
                                    .random = true,
                                    .level_s = 15,
                                    .common = true};

static struct host *start(const struct trace *trace, uint64_t seed)
{
    struct host *host = host_new(&machines[trace->machine], seed);

    host->level_low = trace->low;
    host->level_high = trace->high;
    host->level_spread = trace->spread;
    for (unsigned i = 0; i < TRACE_VMS; i++) {
        unsigned vm = host_add_vm(host, 8, ALL_SOCKETS, 100);

        host_add_tasks(host, vm, host->n_cpus / TRACE_VMS, &trace_load, ALL_SOCKETS, 0, INFINITY);
    }
    return host;
}

static void take_point(const struct host *host, const struct observation *observation,
                       const struct static_power *static_power, struct trace_point *ret)
{
    struct usage_socket used = {0};

    for (size_t e = 0; e < usage_n_entities(&observation->usage); e++)
        used.cpu_ns += usage_on_socket(usage_entity(&observation->usage, e), 0).cpu_ns;
    *ret = (struct trace_point){
        .seconds = (double)host->time_us / 1e6,
        .busy_threads = (double)used.cpu_ns / 1e9 / observation->proc.seconds,
        .measured_watts =
            (double)observation->sample.zones[0].energy_uj / 1e6 / observation->proc.seconds,
        .static_watts = host->sockets[0].static_watts,
        .learned_watts = (double)static_power->power_uw / 1e6,
        .state = static_power->state,
        .known = static_power->origin == STATIC_FROM_LOAD,
    };
}

void trace_run(const struct trace *trace, uint64_t seed, struct trace_result *ret)
{
    struct host *host = start(trace, seed);
    struct observer *observer = observer_new(host, seed + 1);
    struct static_powers *static_powers;

    require(static_powers_new(&static_powers, NULL, 0,
                              (struct static_power){.state = STATIC_LEARNING}, true) == 0,
            "out of memory");
    for (ret->n = 0; ret->n < trace->seconds; ret->n++) {
        struct observation observation;

        if (trace->quiet_s > 0 && ret->n == trace->quiet_s) {
            host->level_low = host->level_high = 0.5;
            host->level_spread = 0;
        }
        host->ambient_celsius = host->machine->ambient_celsius +
                                trace->kelvin_per_hour * (double)host->time_us / 3600e6;
        for (unsigned ms = 0; ms < 1000; ms++)
            host_step(host);
        observer_read(observer, &observation);
        require(static_powers_update(static_powers, observer_zones(observer), &observation.sample,
                                     &observation.usage) == 0,
                "out of memory");
        take_point(host, &observation, static_powers_get(static_powers, 0), &ret->points[ret->n]);
        usage_deinit(&observation.usage);
    }
    static_powers_free(static_powers);
    observer_free(observer);
    host_free(host);
}

static double error(const struct trace_point *point)
{
    if (!point->known)
        return INFINITY;
    return 100 * fabs(point->learned_watts / point->static_watts - 1);
}

double trace_error(const struct trace_result *result, double seconds)
{
    return error(&result->points[(unsigned)seconds - 1]);
}

double trace_largest_error(const struct trace_result *result, double from_s)
{
    double largest = 0;

    for (unsigned i = (unsigned)from_s - 1; i < result->n; i++)
        largest = fmax(largest, error(&result->points[i]));
    return largest;
}
