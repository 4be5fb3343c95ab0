/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The metrics as Prometheus text.
 *
 * Energy is printed from whole microjoules, never through floating point: in
 * one scrape the sum of a zone's rows (every VM's dynamic energy, the host's,
 * the static and the unattributed part) is the source's row to the last digit.
 * All rows come from one snapshot.
 *
 * A zone that has never been read has no energy rows: its energy is unknown
 * rather than 0 J. virtjoule_zone_readable shows that the zone is there.
 */

#include "publish/exporter.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/macros.h"
#include "util/metrics_text.h"

#define UW_PER_W UINT64_C(1000000)

/* A metric: its HELP and TYPE lines, and the function that writes its rows. */
struct family {
    const char *name;
    const char *type;
    const char *help;
    void (*write)(FILE *stream, const struct family *family, const struct snapshot *snapshot);
    size_t
        field; /* where the number of a row is, from the start of the struct that write() reads */
    /* For write_meter(): the number of a meter; NAN: it has none. */
    double (*of_meter)(const struct snapshot *snapshot, const struct snapshot_meter *meter,
                       const struct family *family);
};

static uint64_t get_u64(const void *start, const struct family *family)
{
    return *(const uint64_t *)((const char *)start + family->field);
}

static bool zone_measured(const struct snapshot_zone *zone)
{
    return zone->readable || zone->measured_uj > 0;
}

/* The labels of a zone: the source of its energy, and its name. */
static void write_origin(FILE *stream, const struct snapshot *snapshot, size_t zone)
{
    const struct zone *origin = &snapshot->zones[zone].zone;

    metrics_write_label(stream, "source", origin->source ? origin->source : snapshot->source,
                        SIZE_MAX);
    fputc(',', stream);
    metrics_write_label(stream, "zone", origin->name, ZONE_NAME_MAX);
}

static void write_vm(FILE *stream, const struct snapshot_vm *vm)
{
    metrics_write_label(stream, "uuid", vm->uuid_text, UUID_TEXT_SIZE);
    fputc(',', stream);
    metrics_write_label(stream, "name", vm->name, VM_NAME_MAX);
}

static void write_watts(FILE *stream, uint64_t power_uw)
{
    fprintf(stream, "%" PRIu64 ".%06" PRIu64 "\n", power_uw / UW_PER_W, power_uw % UW_PER_W);
}

/* The field is a total of struct snapshot_zone. */
static void write_zone_energy(FILE *stream, const struct family *family,
                              const struct snapshot *snapshot)
{
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        if (!zone_measured(&snapshot->zones[z]))
            continue;
        fprintf(stream, "%s{", family->name);
        write_origin(stream, snapshot, z);
        fputs("} ", stream);
        metrics_write_joules(stream, get_u64(&snapshot->zones[z], family));
    }
}

/* The field is an array of totals by zone in struct snapshot_vm; of every VM, running or not. */
static void write_vm_energy(FILE *stream, const struct family *family,
                            const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        const struct snapshot_vm *vm = &snapshot->vms[v];
        const uint64_t *totals = (const uint64_t *)((const char *)vm + family->field);

        for (size_t z = 0; z < snapshot->n_zones; z++) {
            if (!zone_measured(&snapshot->zones[z]))
                continue;
            fprintf(stream, "%s{", family->name);
            write_vm(stream, vm);
            fputc(',', stream);
            write_origin(stream, snapshot, z);
            fputs("} ", stream);
            metrics_write_joules(stream, totals[z]);
        }
    }
}

static void write_readable(FILE *stream, const struct family *family,
                           const struct snapshot *snapshot)
{
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        fprintf(stream, "%s{", family->name);
        write_origin(stream, snapshot, z);
        fprintf(stream, "} %d\n", snapshot->zones[z].readable);
    }
}

static void write_static_power(FILE *stream, const struct family *family,
                               const struct snapshot *snapshot)
{
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        const struct static_power *static_power = &snapshot->zones[z].static_power;

        fprintf(stream, "%s{", family->name);
        write_origin(stream, snapshot, z);
        fprintf(stream, ",origin=\"%s\",state=\"%s\"} ",
                static_origin_to_string(static_power->origin),
                static_state_to_string(static_power->state));
        write_watts(stream, static_power->power_uw);
    }
}

static void write_static_uncertainty(FILE *stream, const struct family *family,
                                     const struct snapshot *snapshot)
{
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        const struct static_power *static_power = &snapshot->zones[z].static_power;

        if (static_power->uncertainty_uw == 0)
            continue;
        fprintf(stream, "%s{", family->name);
        write_origin(stream, snapshot, z);
        fputs("} ", stream);
        write_watts(stream, static_power->uncertainty_uw);
    }
}

static void write_meter_info(FILE *stream, const struct family *family,
                             const struct snapshot *snapshot)
{
    for (size_t m = 0; m < snapshot->n_meters; m++) {
        const struct snapshot_meter *meter = &snapshot->meters[m];

        fprintf(
            stream, "%s{source=\"%s\",state=\"%s\",trust=\"%s\",learning=\"%s\",used=\"%s\"} 1\n",
            family->name, meter->source, meter->state, platform_trust_to_string(meter->known.trust),
            static_state_to_string(meter->known.estimate.state), meter->used ? "yes" : "no");
    }
}

static void write_meter(FILE *stream, const struct family *family, const struct snapshot *snapshot)
{
    for (size_t m = 0; m < snapshot->n_meters; m++) {
        const struct snapshot_meter *meter = &snapshot->meters[m];
        double number = family->of_meter(snapshot, meter, family);

        if (!isnan(number))
            fprintf(stream, "%s{source=\"%s\"} %.9g\n", family->name, meter->source, number);
    }
}

static double meter_watts(const struct snapshot *snapshot, const struct snapshot_meter *meter,
                          const struct family *family)
{
    const struct platform_reading *last = &meter->known.last;

    return last->time_ns && meter->known.trust != PLATFORM_SILENT ? (double)last->power_uw / 1e6
                                                                  : NAN;
}

static double meter_age(const struct snapshot *snapshot, const struct snapshot_meter *meter,
                        const struct family *family)
{
    const struct platform_reading *last = &meter->known.last;

    return last->time_ns
               ? ((double)snapshot->time_ns - (double)last->time_ns) / (double)NSEC_PER_SEC
               : NAN;
}

static double meter_delay(const struct snapshot *snapshot, const struct snapshot_meter *meter,
                          const struct family *family)
{
    const struct platform_estimate *estimate = &meter->known.estimate;

    return estimate->known ? estimate->delay_s + estimate->window_s / 2 : NAN;
}

/* The field is a number of struct platform_estimate. */
static double meter_relation(const struct snapshot *snapshot, const struct snapshot_meter *meter,
                             const struct family *family)
{
    const struct platform_estimate *estimate = &meter->known.estimate;

    return estimate->known ? *(const double *)((const char *)estimate + family->field) : NAN;
}

static void write_vm_cpu(FILE *stream, const struct family *family, const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        fprintf(stream, "%s{", family->name);
        write_vm(stream, &snapshot->vms[v]);
        fputs("} ", stream);
        metrics_write_seconds(stream, snapshot->vms[v].cpu_ns);
    }
}

/* The field is a whole number of struct snapshot_vm. */
static void write_vm_number(FILE *stream, const struct family *family,
                            const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        fprintf(stream, "%s{", family->name);
        write_vm(stream, &snapshot->vms[v]);
        fprintf(stream, "} %" PRIu64 "\n", get_u64(&snapshot->vms[v], family));
    }
}

static void write_vm_running(FILE *stream, const struct family *family,
                             const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        fprintf(stream, "%s{", family->name);
        write_vm(stream, &snapshot->vms[v]);
        fprintf(stream, "} %d\n", snapshot->vms[v].running);
    }
}

static void write_vm_info(FILE *stream, const struct family *family,
                          const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        const struct snapshot_vm *vm = &snapshot->vms[v];

        fprintf(stream, "%s{", family->name);
        write_vm(stream, vm);
        fprintf(stream, ",manager=\"%s\",vcpus=\"%u\"} 1\n", vm_manager_to_string(vm->manager),
                vm->vcpus);
    }
}

static void write_reads(FILE *stream, const struct family *family, const struct snapshot *snapshot)
{
    for (size_t v = 0; v < snapshot->n_vms; v++)
        fprintf(stream, "%s{uuid=\"%s\"} %" PRIu64 "\n", family->name, snapshot->vms[v].uuid_text,
                snapshot->vms[v].tree_reads);
}

static void write_ticks(FILE *stream, const struct family *family, const struct snapshot *snapshot)
{
    const struct snapshot_health *health = &snapshot->health;
    uint64_t count = 0;

    for (size_t i = 0; i < TICK_BUCKETS; i++) {
        count += health->tick_buckets[i];
        fprintf(stream, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", family->name, tick_bucket_seconds[i],
                count);
    }
    count += health->tick_buckets[TICK_BUCKETS];
    fprintf(stream, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", family->name, count);
    fprintf(stream, "%s_sum ", family->name);
    metrics_write_seconds(stream, health->tick_ns_sum);
    fprintf(stream, "%s_count %" PRIu64 "\n", family->name, count);
}

/* The field is a whole number of struct snapshot_health. */
static void write_health(FILE *stream, const struct family *family, const struct snapshot *snapshot)
{
    fprintf(stream, "%s %" PRIu64 "\n", family->name, get_u64(&snapshot->health, family));
}

/* In the order of the text. */
static const struct family families[] = {
    {"virtjoule_source_energy_joules_total", "counter",
     "Energy the host's zone used: the sum of the four parts below.", .write = write_zone_energy,
     .field = offsetof(struct snapshot_zone, measured_uj)},
    {"virtjoule_vm_energy_joules_total", "counter",
     "Part of the zone's dynamic energy that is the VM's.", .write = write_vm_energy,
     .field = offsetof(struct snapshot_vm, dynamic_uj)},
    {"virtjoule_host_energy_joules_total", "counter",
     "Part of the zone's dynamic energy that is no VM's.", .write = write_zone_energy,
     .field = offsetof(struct snapshot_zone, host_uj)},
    {"virtjoule_static_energy_joules_total", "counter", "Energy the zone uses without any load.",
     .write = write_zone_energy, .field = offsetof(struct snapshot_zone, static_uj)},
    {"virtjoule_unattributed_energy_joules_total", "counter",
     "Energy used while nobody was seen to use the zone.", .write = write_zone_energy,
     .field = offsetof(struct snapshot_zone, unattributed_uj)},
    {"virtjoule_vm_static_energy_joules_total", "counter",
     "Part of the zone's static energy that the static policy gives the VM; "
     "contained in virtjoule_static_energy_joules_total.",
     .write = write_vm_energy, .field = offsetof(struct snapshot_vm, static_uj)},
    {"virtjoule_zone_readable", "gauge", "Was the zone read at the last tick?",
     .write = write_readable},
    {"virtjoule_baseline_watts", "gauge",
     "Static power that is taken off the zone's power; where it comes from, and "
     "whether it is being learned.",
     .write = write_static_power},
    {"virtjoule_baseline_uncertainty_watts", "gauge",
     "Standard uncertainty of the static power, where it is known.",
     .write = write_static_uncertainty},
    {"virtjoule_meter_info", "gauge",
     "A meter of the whole machine's power: how the last question to it ended, whether "
     "it is believed, what is learned from it, whether it is used; always 1.",
     .write = write_meter_info},
    {"virtjoule_platform_watts", "gauge", "Power of the whole machine as the meter told it last.",
     .write = write_meter, .of_meter = meter_watts},
    {"virtjoule_meter_age_seconds", "gauge", "Age of the meter's last good reading.",
     .write = write_meter, .of_meter = meter_age},
    {"virtjoule_meter_delay_seconds", "gauge",
     "How far the meter's readings lag behind, as learned.", .write = write_meter,
     .of_meter = meter_delay},
    {"virtjoule_platform_static_watts", "gauge",
     "What the machine draws beside the processors, as learned: a in a + b x RAPL.",
     .write = write_meter, .of_meter = meter_relation,
     .field = offsetof(struct platform_estimate, static_watts)},
    {"virtjoule_platform_static_uncertainty_watts", "gauge", "Its standard uncertainty.",
     .write = write_meter, .of_meter = meter_relation,
     .field = offsetof(struct platform_estimate, static_sigma)},
    {"virtjoule_platform_slope", "gauge",
     "What the machine draws for each watt of the processors (without RAPL: for "
     "each busy core), as learned: b.",
     .write = write_meter, .of_meter = meter_relation,
     .field = offsetof(struct platform_estimate, slope)},
    {"virtjoule_platform_slope_uncertainty", "gauge", "Its standard uncertainty.",
     .write = write_meter, .of_meter = meter_relation,
     .field = offsetof(struct platform_estimate, slope_sigma)},
    {"virtjoule_platform_io_joules_per_byte", "gauge",
     "What a byte of block I/O costs beyond that; 0 where it cannot be told.", .write = write_meter,
     .of_meter = meter_relation, .field = offsetof(struct platform_estimate, io_joules_per_byte)},
    {"virtjoule_vm_cpu_seconds_total", "counter",
     "CPU time of the VM's threads and helpers on the host.", .write = write_vm_cpu},
    {"virtjoule_vm_memory_bytes", "gauge", "Memory of the VM that is resident on the host.",
     .write = write_vm_number, .field = offsetof(struct snapshot_vm, memory_bytes)},
    {"virtjoule_vm_block_io_bytes_total", "counter",
     "Bytes the VM read from and wrote to block devices.", .write = write_vm_number,
     .field = offsetof(struct snapshot_vm, io_bytes)},
    {"virtjoule_vm_running", "gauge", "Does a process of the VM run?", .write = write_vm_running},
    {"virtjoule_vm_info", "gauge", "What the VM is; always 1.", .write = write_vm_info},
    {"virtjoule_fuse_reads_total", "counter", "Reads of the files in the VM's powercap tree.",
     .write = write_reads},
    {"virtjoule_tick_seconds", "histogram", "Time that one tick took.", .write = write_ticks},
    {"virtjoule_ticks_missed_total", "counter",
     "Ticks that did not take place because an earlier one took too long.", .write = write_health,
     .field = offsetof(struct snapshot_health, ticks_missed)},
    {"virtjoule_vm_rows_dropped_total", "counter",
     "Rows of ended VMs that went early, because many had ended; their energy is in the row "
     "\"former\".",
     .write = write_health, .field = offsetof(struct snapshot_health, rows_dropped)},
    {"virtjoule_unlisted_processes", "gauge",
     "Processes of VMs that are counted to the host since the table is full.",
     .write = write_health, .field = offsetof(struct snapshot_health, unlisted_processes)},
    {"virtjoule_unlisted_vms", "gauge", "VMs beyond the bound, which are counted to the host.",
     .write = write_health, .field = offsetof(struct snapshot_health, unlisted_vms)},
    {"virtjoule_unlisted_sockets", "gauge",
     "Sockets of VMs beyond the bound for each, whose helpers are counted to the host.",
     .write = write_health, .field = offsetof(struct snapshot_health, unlisted_sockets)},
};

static void write_build(FILE *stream, const struct snapshot *snapshot, const char *version)
{
    metrics_write_family(stream, "virtjoule_build_info", "gauge", "The daemon; always 1.");
    fputs("virtjoule_build_info{", stream);
    metrics_write_label(stream, "version", version, SIZE_MAX);
    if (snapshot) {
        fputc(',', stream);
        metrics_write_label(stream, "usage_provider", snapshot->usage_provider, SIZE_MAX);
        fputc(',', stream);
        metrics_write_label(stream, "model", snapshot->model, SIZE_MAX);
        fputc(',', stream);
        metrics_write_label(stream, "static_policy", snapshot->static_policy, SIZE_MAX);
    }
    fputs("} 1\n", stream);
}

/* A machine without meters has no metrics of meters. */
static bool is_written(const struct family *family, const struct snapshot *snapshot)
{
    return snapshot->n_meters > 0 ||
           (family->write != write_meter && family->write != write_meter_info);
}

int exporter_render(FILE *stream, const struct snapshot *snapshot, const char *version)
{
    write_build(stream, snapshot, version);
    for (size_t i = 0; snapshot && i < ARRAY_SIZE(families); i++) {
        if (!is_written(&families[i], snapshot))
            continue;
        metrics_write_family(stream, families[i].name, families[i].type, families[i].help);
        families[i].write(stream, &families[i], snapshot);
    }
    return fflush(stream) != 0 || ferror(stream) ? -EIO : 0;
}
