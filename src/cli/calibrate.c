/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `virtjoule calibrate`: measures every zone's static power without the daemon and writes it for
 * the daemon.
 *
 *     RAPL readings and /proc/stat -> windows -> calibrate_zone() -> table or JSON, file
 */

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "baseline/calibration.h"
#include "cli/client.h"
#include "cli/print.h"
#include "cli/subcommand.h"
#include "host/cpu_busy.h"
#include "host/topology.h"
#include "source/energy_source.h"
#include "source/rapl.h"
#include "source/sample.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/parse.h"

/* Long enough for the 10 ms ticks in which /proc/stat counts idle time. */
#define WINDOW_NS (500 * NSEC_PER_MSEC)

struct arguments {
    uint64_t duration_ns;
    bool strict;
    const struct common_options *common;
    const char *output;
    const char *sysfs_root;
    const char *proc_root;
};

struct measurement {
    struct energy_source *source;
    struct cpu_busy *busy;
    struct topology topology;
    struct sampler sampler;
    uint64_t busy_ns[ZONES_MAX]; /* at the last reading */
    struct calibration_window windows[ZONES_MAX][CALIBRATION_WINDOWS_MAX];
    size_t n_windows[ZONES_MAX];
    struct calibration zones[ZONES_MAX];
};

static int parse_duration(const char *text, uint64_t *ret)
{
    uint64_t duration_ns;
    int r = parse_duration_ns(text, &duration_ns);

    if (r < 0)
        return r;
    if (duration_ns < CALIBRATION_WINDOWS_MIN * WINDOW_NS || duration_ns > 3600 * NSEC_PER_SEC)
        return -ERANGE;
    *ret = duration_ns;
    return 0;
}

/* Measuring. */

static void measurement_free(struct measurement *measurement)
{
    energy_source_free(measurement->source);
    cpu_busy_free(measurement->busy);
    topology_deinit(&measurement->topology);
    free(measurement);
}
DEFINE_CLEANUP(struct measurement *, measurement_free);

static int open_sources(struct measurement *measurement, const struct arguments *arguments)
{
    int r = rapl_new(&measurement->source, arguments->sysfs_root);

    if (r < 0) {
        fprintf(stderr,
                r == -ENOENT
                    ? "virtjoule: no RAPL zone under %s/class/powercap: load the driver "
                      "(modprobe intel_rapl_msr); inside a virtual machine there is none\n"
                    : "virtjoule: the RAPL zones under %s/class/powercap cannot be read: run "
                      "calibrate as root\n",
                arguments->sysfs_root);
        return r;
    }
    r = cpu_busy_new(&measurement->busy, arguments->proc_root);
    if (r < 0)
        return r;
    return topology_read(&measurement->topology, arguments->sysfs_root,
                         cpu_busy_count(measurement->busy), UINT8_MAX + 1);
}

/* The busy time of a zone's CPUs, and their number. */
static uint64_t zone_busy_ns(const struct measurement *measurement, const struct zone *zone,
                             size_t *ret_cpus)
{
    uint64_t busy_ns = 0;

    *ret_cpus = 0;
    for (size_t cpu = 0; cpu < measurement->topology.n_cpus; cpu++) {
        if (zone->socket != ZONE_ALL_SOCKETS && measurement->topology.socket[cpu] != zone->socket)
            continue;
        busy_ns += cpu_busy_ns(measurement->busy, cpu);
        (*ret_cpus)++;
    }
    return busy_ns;
}

/* Adds one window, from the last call to this one. */
static int take_window(struct measurement *measurement)
{
    const struct zone_set *zones = &measurement->source->zones;
    struct reading readings[ZONES_MAX] = {0};
    struct sample sample;
    uint64_t time_ns = now_ns();
    int r;

    measurement->source->ops->read(measurement->source, readings);
    r = cpu_busy_update(measurement->busy, time_ns);
    if (r < 0)
        return r;
    sampler_take(&measurement->sampler, zones, readings, time_ns, &sample);
    for (size_t slot = 0; slot < zones->n; slot++) {
        size_t cpus, *n = &measurement->n_windows[slot];
        uint64_t busy_ns = zone_busy_ns(measurement, &zones->zones[slot], &cpus);
        const struct sample_zone *zone = &sample.zones[slot];

        if (zone->valid && !zone->gap && zone->duration_ns > 0 && *n < CALIBRATION_WINDOWS_MAX) {
            double capacity_ns = (double)zone->duration_ns * (double)(cpus ? cpus : 1);
            double busy = (double)(busy_ns - measurement->busy_ns[slot]) / capacity_ns;

            measurement->windows[slot][(*n)++] = (struct calibration_window){
                zone->energy_uj, zone->duration_ns, busy < 1 ? busy : 1};
        }
        measurement->busy_ns[slot] = busy_ns;
    }
    return 0;
}

static int measure(struct measurement *measurement, uint64_t duration_ns)
{
    uint64_t n = duration_ns / WINDOW_NS;
    uint64_t start_ns = now_ns(), window_ns;
    int r = take_window(measurement);

    assert(n > 0);
    if (n > CALIBRATION_WINDOWS_MAX)
        n = CALIBRATION_WINDOWS_MAX;
    window_ns = duration_ns / n;
    for (uint64_t i = 1; i <= n && r == 0; i++) {
        uint64_t end_ns = start_ns + i * window_ns;
        struct timespec end = {.tv_sec = (time_t)(end_ns / NSEC_PER_SEC),
                               .tv_nsec = (long)(end_ns % NSEC_PER_SEC)};

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
            ;
        r = take_window(measurement);
    }
    return r;
}

/* The result. */

static bool zone_known(const struct measurement *measurement, size_t slot)
{
    return measurement->n_windows[slot] >= CALIBRATION_WINDOWS_MIN;
}

static const struct {
    enum calibration_flaw flaw;
    const char *name, *text;
} flaws[] = {
    {CALIBRATION_BUSY, "busy", "the host was busy"},
    {CALIBRATION_UNSTEADY, "unsteady", "its power was unsteady"},
    {CALIBRATION_EXTRAPOLATED, "extrapolated", "much of its power was load, and is guessed at"},
};

static void print_table(const struct measurement *measurement)
{
    const struct zone_set *zones = &measurement->source->zones;

    printf("%-20s %12s %12s %12s %8s %9s\n", "ZONE", "WATTS", "+-", "SPREAD", "BUSY %", "WINDOWS");
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct calibration *zone = &measurement->zones[slot];

        if (!zone_known(measurement, slot)) {
            printf("%-20s could not be read\n", zones->zones[slot].name);
            continue;
        }
        printf("%-20s %12.3f %12.3f %12.3f %8.2f %4zu/%zu\n", zones->zones[slot].name,
               zone->power_uw / 1e6, zone->uncertainty_uw / 1e6, zone->spread_uw / 1e6,
               zone->busy * 100, zone->quiet, measurement->n_windows[slot]);
    }
}

static void print_flaws(const struct measurement *measurement, const char *consequence)
{
    const struct zone_set *zones = &measurement->source->zones;

    for (size_t slot = 0; slot < zones->n; slot++)
        for (size_t i = 0; i < ARRAY_SIZE(flaws); i++)
            if (measurement->zones[slot].flaws & flaws[i].flaw)
                fprintf(stderr, "virtjoule: %s: %s: %s\n", zones->zones[slot].name, flaws[i].text,
                        consequence);
}

static struct json_object *json_watts(double power_uw)
{
    char text[32];

    snprintf(text, sizeof(text), "%.6f", power_uw / 1e6);
    return json_object_new_double_s(power_uw / 1e6, text);
}

static struct json_object *json_zone(const char *name, const struct calibration *zone,
                                     size_t windows)
{
    struct json_object *object = json_object_new_object();
    struct json_object *problems = json_object_new_array();

    json_object_object_add(object, "name", json_object_new_string(name));
    json_object_object_add(object, "watts", json_watts(zone->power_uw));
    json_object_object_add(object, "uncertainty_watts", json_watts(zone->uncertainty_uw));
    json_object_object_add(object, "spread_watts", json_watts(zone->spread_uw));
    json_object_object_add(object, "load_watts", json_watts(zone->load_uw));
    json_object_object_add(object, "busy", json_object_new_double(zone->busy));
    json_object_object_add(object, "windows", json_object_new_uint64(windows));
    json_object_object_add(object, "windows_used", json_object_new_uint64(zone->quiet));
    for (size_t i = 0; i < ARRAY_SIZE(flaws); i++)
        if (zone->flaws & flaws[i].flaw)
            json_object_array_add(problems, json_object_new_string(flaws[i].name));
    json_object_object_add(object, "problems", problems);
    return object;
}

static void print_result(const struct measurement *measurement, const char *written)
{
    const struct zone_set *zones = &measurement->source->zones;
    _cleanup_json_ struct json_object *object = json_object_new_object();
    struct json_object *list = json_object_new_array();

    for (size_t slot = 0; slot < zones->n; slot++)
        if (zone_known(measurement, slot))
            json_object_array_add(list,
                                  json_zone(zones->zones[slot].name, &measurement->zones[slot],
                                            measurement->n_windows[slot]));
    json_object_object_add(object, "zones", list);
    json_object_object_add(object, "file", written ? json_object_new_string(written) : NULL);
    print_json(object);
}

/* The file. */

static void write_content(FILE *stream, const struct measurement *measurement)
{
    const struct zone_set *zones = &measurement->source->zones;
    char host[HOST_NAME_MAX + 1] = "", date[32];
    time_t now = time(NULL);

    gethostname(host, sizeof(host) - 1);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    fprintf(stream,
            "# Static power of the zones of %s, by virtjoule calibrate at %s:\n"
            "# median of the quiet windows, less their load; +- one standard uncertainty.\n"
            "[baseline]\n",
            host, date);
    for (size_t slot = 0; slot < zones->n; slot++) {
        const struct calibration *zone = &measurement->zones[slot];

        if (!zone_known(measurement, slot))
            continue;
        fprintf(stream, "# %zu of %zu windows, spread %.3f W, busy %.2f %%, %.3f W taken off%s\n",
                zone->quiet, measurement->n_windows[slot], zone->spread_uw / 1e6, zone->busy * 100,
                zone->load_uw / 1e6, zone->flaws ? ", NOT RELIABLE" : "");
        fprintf(stream, "%s = %.6fW +- %.6fW\n", zones->zones[slot].name, zone->power_uw / 1e6,
                zone->uncertainty_uw / 1e6);
    }
}

static int save(const struct measurement *measurement, const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    if (!stream)
        return -ENOMEM;
    write_content(stream, measurement);
    if (fclose(stream) != 0)
        return -ENOMEM;
    return replace_file(path, text, length, 0644);
}

static int report(const struct measurement *measurement, const struct arguments *arguments)
{
    const struct zone_set *zones = &measurement->source->zones;
    bool flawed = false, refused;
    int r = 0;

    for (size_t slot = 0; slot < zones->n; slot++)
        flawed |= measurement->zones[slot].flaws != 0;
    refused = flawed && arguments->strict;
    if (!refused)
        r = save(measurement, arguments->output);
    if (arguments->common->json)
        print_result(measurement, refused || r < 0 ? NULL : arguments->output);
    else
        print_table(measurement);
    print_flaws(measurement, refused ? "refused, nothing was written (--strict)"
                                     : "the uncertainty is larger for it");
    if (r < 0)
        fprintf(stderr, "virtjoule: cannot write %s: %s\n", arguments->output, log_errno_text(r));
    if (refused || r < 0)
        return EXIT_FAILURE;
    if (!arguments->common->json)
        printf("\nWritten to %s. To use it, put this into virtjouled's configuration:\n\n"
               "[baseline]\nfile = %s\n",
               arguments->output, arguments->output);
    return EXIT_SUCCESS;
}

/* @return the exit status */
static int run(const struct arguments *arguments)
{
    _cleanup_(cleanup_measurement_free) struct measurement *measurement =
        calloc(1, sizeof(*measurement));
    size_t known = 0;

    if (!measurement)
        return EXIT_FAILURE;
    if (open_sources(measurement, arguments) < 0 ||
        measure(measurement, arguments->duration_ns) < 0)
        return STATUS_UNAVAILABLE;
    for (size_t slot = 0; slot < measurement->source->zones.n; slot++)
        known += calibrate_zone(measurement->windows[slot], measurement->n_windows[slot],
                                &measurement->zones[slot]) == 0;
    if (known == 0) {
        fputs("virtjoule: the energy counters could not be read while measuring\n", stderr);
        return STATUS_UNAVAILABLE;
    }
    return report(measurement, arguments);
}

int calibrate_command(struct common_options *common, int argc, char **argv)
{
    const char *duration = "60s";
    struct arguments arguments = {
        .common = common,
        .output = "/var/lib/virtjoule/baseline.conf",
        .sysfs_root = "/sys",
        .proc_root = "/proc",
    };
    const struct program_option options[] = {
        {"duration", "TIME", "how long to measure, 5s to 1h (default 60s)", .text = &duration},
        {"strict", NULL, "refuse a host that is busy or unsteady, and write nothing",
         .flag = &arguments.strict},
        {"output", "FILE", "default /var/lib/virtjoule/baseline.conf", .text = &arguments.output},
        {"sysfs-root", "DIR", "default /sys", .text = &arguments.sysfs_root},
        {"proc-root", "DIR", "default /proc", .text = &arguments.proc_root},
        COMMON_OPTIONS(common),
    };
    const struct program_usage usage = {
        .name = "virtjoule calibrate",
        .arguments = "[OPTION]...",
        .purpose = "Measures what each zone draws with no load, and writes it for virtjouled.\n"
                   "Stop the VMs first, or be content with a larger uncertainty.",
        .statuses = "0 success, 1 refused or not written, 2 wrong usage, 69 no energy\n"
                    "can be read",
        .wrong_usage = STATUS_USAGE,
        .options = options,
        .n_options = ARRAY_SIZE(options),
    };
    int status = program_parse(&usage, argc, argv);

    if (status >= 0)
        return status;
    if (parse_duration(duration, &arguments.duration_ns) < 0)
        return program_usage_error(&usage,
                                   "--duration takes a time from 5s to 60min, with its unit");
    return run(&arguments);
}
