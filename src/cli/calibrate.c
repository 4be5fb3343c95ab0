/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/calibrate.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "baseline/calibration.h"
#include "host/cpu_busy.h"
#include "host/topology.h"
#include "source/energy_source.h"
#include "source/rapl.h"
#include "source/sample.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"

/* Long enough for the 10 ms ticks in which /proc/stat tells idle time. */
#define WINDOW_NS (500 * NSEC_PER_MSEC)

struct arguments {
    uint64_t duration_ns;
    bool strict;
    bool json;
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

static const char usage_text[] =
    "Usage: virtjoule calibrate [OPTION]...\n"
    "\n"
    "Measures what each zone draws with no load, and writes it for virtjouled.\n"
    "Stop the VMs first, or be content with a larger uncertainty.\n"
    "\n"
    "  --duration TIME    how long to measure, 5s to 1h (default 60s)\n"
    "  --strict           refuse a host that is busy or unsteady, and write nothing\n"
    "  --output FILE      default /var/lib/virtjoule/baseline.conf\n"
    "  --json             print the result as JSON\n"
    "  --sysfs-root DIR   default /sys\n"
    "  --proc-root DIR    default /proc\n"
    "\n"
    "Exit status: 0 success, 1 refused or not written, 2 wrong usage, 69 no energy\n"
    "can be read.\n";

static int usage_error(const char *problem)
{
    fprintf(stderr, "virtjoule: calibrate: %s; see virtjoule calibrate --help\n", problem);
    return 2;
}

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

/* @return -1 to go on, else the exit status */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
    static const struct option options[] = {
        {"duration", required_argument, NULL, 'd'},
        {"strict", no_argument, NULL, 's'},
        {"output", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},
        {"sysfs-root", required_argument, NULL, 'S'},
        {"proc-root", required_argument, NULL, 'P'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'd':
            if (parse_duration(optarg, &ret->duration_ns) < 0)
                return usage_error("--duration takes a time from 5s to 60min, with its unit");
            break;
        case 's':
            ret->strict = true;
            break;
        case 'o':
            ret->output = optarg;
            break;
        case 'j':
            ret->json = true;
            break;
        case 'S':
            ret->sysfs_root = optarg;
            break;
        case 'P':
            ret->proc_root = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        default:
            return 2;
        }
    }
    return optind < argc ? usage_error("unexpected argument") : -1;
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

/* The busy time of a zone's CPUs, and how many they are. */
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

/* One window, from the last call to this one. */
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

/* Telling. */

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

#define N_FLAWS (sizeof(flaws) / sizeof(flaws[0]))

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
        for (size_t i = 0; i < N_FLAWS; i++)
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
    for (size_t i = 0; i < N_FLAWS; i++)
        if (zone->flaws & flaws[i].flaw)
            json_object_array_add(problems, json_object_new_string(flaws[i].name));
    json_object_object_add(object, "problems", problems);
    return object;
}

static void print_json(const struct measurement *measurement, const char *written)
{
    const struct zone_set *zones = &measurement->source->zones;
    struct json_object *object = json_object_new_object(), *list = json_object_new_array();

    for (size_t slot = 0; slot < zones->n; slot++)
        if (zone_known(measurement, slot))
            json_object_array_add(list,
                                  json_zone(zones->zones[slot].name, &measurement->zones[slot],
                                            measurement->n_windows[slot]));
    json_object_object_add(object, "zones", list);
    json_object_object_add(object, "file", written ? json_object_new_string(written) : NULL);
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
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
    if (arguments->json)
        print_json(measurement, refused || r < 0 ? NULL : arguments->output);
    else
        print_table(measurement);
    print_flaws(measurement, refused ? "refused, nothing was written (--strict)"
                                     : "the uncertainty is larger for it");
    if (r < 0)
        fprintf(stderr, "virtjoule: cannot write %s: %s\n", arguments->output, log_errno_text(r));
    if (refused || r < 0)
        return EXIT_FAILURE;
    if (!arguments->json)
        printf("\nWritten to %s. To use it, put this into virtjouled's configuration:\n\n"
               "[baseline]\nfile = %s\n",
               arguments->output, arguments->output);
    return EXIT_SUCCESS;
}

int calibrate_command(int argc, char **argv)
{
    struct arguments arguments = {
        .duration_ns = 60 * NSEC_PER_SEC,
        .output = "/var/lib/virtjoule/baseline.conf",
        .sysfs_root = "/sys",
        .proc_root = "/proc",
    };
    _cleanup_(cleanup_measurement_free) struct measurement *measurement = NULL;
    int status = parse_arguments(argc, argv, &arguments);
    size_t known = 0;

    if (status >= 0)
        return status;
    measurement = calloc(1, sizeof(*measurement));
    if (!measurement)
        return EXIT_FAILURE;
    if (open_sources(measurement, &arguments) < 0)
        return EX_UNAVAILABLE;
    if (measure(measurement, arguments.duration_ns) < 0)
        return EX_UNAVAILABLE;
    for (size_t slot = 0; slot < measurement->source->zones.n; slot++)
        known += calibrate_zone(measurement->windows[slot], measurement->n_windows[slot],
                                &measurement->zones[slot]) == 0;
    if (known == 0) {
        fputs("virtjoule: the energy counters could not be read while measuring\n", stderr);
        return EX_UNAVAILABLE;
    }
    return report(measurement, &arguments);
}
