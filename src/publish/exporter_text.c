/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The metrics as Prometheus text.
 *
 * Energy is printed from whole microjoules, never through floating point: in
 * one scrape the sum of a zone's rows (every VM's dynamic energy, the host's,
 * the static and the unattributed part) is the source's row to the last digit.
 * All rows come from one snapshot.
 *
 * A zone that has never been read has no energy rows. It is not known to have
 * used 0 J; virtjoule_zone_readable says that it is there.
 */

#include "publish/exporter.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "util/clock.h"
#include "util/metrics_text.h"

#define UW_PER_W UINT64_C(1000000)

static bool zone_measured(const struct snapshot_zone *zone)
{
    return zone->readable || zone->measured_uj > 0;
}

/* The labels of where energy was measured. */
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

/* One of the rows of struct snapshot_zone. */
static void write_zone_energy(FILE *stream, const struct snapshot *snapshot, const char *name,
                              const char *help, size_t field)
{
    metrics_write_family(stream, name, "counter", help);
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        const struct snapshot_zone *zone = &snapshot->zones[z];

        if (!zone_measured(zone))
            continue;
        fprintf(stream, "%s{", name);
        write_origin(stream, snapshot, z);
        fputs("} ", stream);
        metrics_write_joules(stream, *(const uint64_t *)((const char *)zone + field));
    }
}

/* One of the by-zone totals of struct snapshot_vm, of every VM, running or not. */
static void write_vm_energy(FILE *stream, const struct snapshot *snapshot, const char *name,
                            const char *help, size_t field)
{
    metrics_write_family(stream, name, "counter", help);
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        const uint64_t *totals = (const uint64_t *)((const char *)&snapshot->vms[v] + field);

        for (size_t z = 0; z < snapshot->n_zones; z++) {
            if (!zone_measured(&snapshot->zones[z]))
                continue;
            fprintf(stream, "%s{", name);
            write_vm(stream, &snapshot->vms[v]);
            fputc(',', stream);
            write_origin(stream, snapshot, z);
            fputs("} ", stream);
            metrics_write_joules(stream, totals[z]);
        }
    }
}

static void write_energy(FILE *stream, const struct snapshot *snapshot)
{
    write_zone_energy(stream, snapshot, "virtjoule_source_energy_joules_total",
                      "Energy the host's zone used: the sum of the four parts below.",
                      offsetof(struct snapshot_zone, measured_uj));
    write_vm_energy(stream, snapshot, "virtjoule_vm_energy_joules_total",
                    "Part of the zone's dynamic energy that is the VM's.",
                    offsetof(struct snapshot_vm, dynamic_uj));
    write_zone_energy(stream, snapshot, "virtjoule_host_energy_joules_total",
                      "Part of the zone's dynamic energy that is no VM's.",
                      offsetof(struct snapshot_zone, host_uj));
    write_zone_energy(stream, snapshot, "virtjoule_static_energy_joules_total",
                      "Energy the zone uses without any load.",
                      offsetof(struct snapshot_zone, static_uj));
    write_zone_energy(stream, snapshot, "virtjoule_unattributed_energy_joules_total",
                      "Energy used while nobody was seen to use the zone.",
                      offsetof(struct snapshot_zone, unattributed_uj));
    write_vm_energy(stream, snapshot, "virtjoule_vm_static_energy_joules_total",
                    "Part of the zone's static energy that the static policy gives the VM; "
                    "contained in virtjoule_static_energy_joules_total.",
                    offsetof(struct snapshot_vm, static_uj));
}

static void write_zones(FILE *stream, const struct snapshot *snapshot)
{
    metrics_write_family(stream, "virtjoule_zone_readable", "gauge",
                         "Was the zone read at the last tick?");
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        fputs("virtjoule_zone_readable{", stream);
        write_origin(stream, snapshot, z);
        fprintf(stream, "} %d\n", snapshot->zones[z].readable);
    }
}

static void write_watts(FILE *stream, uint64_t power_uw)
{
    fprintf(stream, "%" PRIu64 ".%06" PRIu64 "\n", power_uw / UW_PER_W, power_uw % UW_PER_W);
}

static void write_baselines(FILE *stream, const struct snapshot *snapshot)
{
    metrics_write_family(
        stream, "virtjoule_baseline_watts", "gauge",
        "Static power that is taken off the zone's power; where it comes from, and "
        "whether it is being learned.");
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        const struct static_power *static_power = &snapshot->zones[z].static_power;

        fputs("virtjoule_baseline_watts{", stream);
        write_origin(stream, snapshot, z);
        fprintf(stream, ",origin=\"%s\",state=\"%s\"} ",
                static_origin_to_string(static_power->origin),
                static_state_to_string(static_power->state));
        write_watts(stream, static_power->power_uw);
    }
    metrics_write_family(stream, "virtjoule_baseline_uncertainty_watts", "gauge",
                         "Standard uncertainty of the static power, where it is known.");
    for (size_t z = 0; z < snapshot->n_zones; z++) {
        const struct static_power *static_power = &snapshot->zones[z].static_power;

        if (static_power->uncertainty_uw == 0)
            continue;
        fputs("virtjoule_baseline_uncertainty_watts{", stream);
        write_origin(stream, snapshot, z);
        fputs("} ", stream);
        write_watts(stream, static_power->uncertainty_uw);
    }
}

/* A metric with one real number per meter; NAN: it has none. */
static void write_meter_number(FILE *stream, const struct snapshot *snapshot, const char *name,
                               const char *help,
                               double (*value)(const struct snapshot *,
                                               const struct snapshot_meter *))
{
    metrics_write_family(stream, name, "gauge", help);
    for (size_t m = 0; m < snapshot->n_meters; m++) {
        double number = value(snapshot, &snapshot->meters[m]);

        if (!isnan(number))
            fprintf(stream, "%s{source=\"%s\"} %.9g\n", name, snapshot->meters[m].source, number);
    }
}

static double meter_watts(const struct snapshot *snapshot, const struct snapshot_meter *meter)
{
    const struct platform_reading *last = &meter->known.last;

    return last->time_ns && meter->known.trust != PLATFORM_SILENT ? (double)last->power_uw / 1e6
                                                                  : NAN;
}

static double meter_age(const struct snapshot *snapshot, const struct snapshot_meter *meter)
{
    const struct platform_reading *last = &meter->known.last;

    return last->time_ns
               ? ((double)snapshot->time_ns - (double)last->time_ns) / (double)NSEC_PER_SEC
               : NAN;
}

static double meter_delay(const struct snapshot *snapshot, const struct snapshot_meter *meter)
{
    const struct platform_estimate *estimate = &meter->known.estimate;

    return estimate->known ? estimate->delay_s + estimate->window_s / 2 : NAN;
}

/* One of the numbers of struct platform_estimate, where they are known. */
static void write_relation(FILE *stream, const struct snapshot *snapshot, const char *name,
                           const char *help, size_t field)
{
    metrics_write_family(stream, name, "gauge", help);
    for (size_t m = 0; m < snapshot->n_meters; m++) {
        const struct platform_estimate *estimate = &snapshot->meters[m].known.estimate;

        if (estimate->known)
            fprintf(stream, "%s{source=\"%s\"} %.9g\n", name, snapshot->meters[m].source,
                    *(const double *)((const char *)estimate + field));
    }
}

static void write_meters(FILE *stream, const struct snapshot *snapshot)
{
    if (snapshot->n_meters == 0)
        return;
    metrics_write_family(
        stream, "virtjoule_meter_info", "gauge",
        "A meter of the whole machine's power: how the last question to it ended, whether "
        "it is believed, what is learned from it, whether it is used; always 1.");
    for (size_t m = 0; m < snapshot->n_meters; m++) {
        const struct snapshot_meter *meter = &snapshot->meters[m];

        fprintf(stream,
                "virtjoule_meter_info{source=\"%s\",state=\"%s\",trust=\"%s\",learning=\"%s\","
                "used=\"%s\"} 1\n",
                meter->source, meter->state, platform_trust_to_string(meter->known.trust),
                static_state_to_string(meter->known.estimate.state), meter->used ? "yes" : "no");
    }
    write_meter_number(stream, snapshot, "virtjoule_platform_watts",
                       "Power of the whole machine as the meter told it last.", meter_watts);
    write_meter_number(stream, snapshot, "virtjoule_meter_age_seconds",
                       "Age of the meter's last good reading.", meter_age);
    write_meter_number(stream, snapshot, "virtjoule_meter_delay_seconds",
                       "How far the meter's readings lag behind, as learned.", meter_delay);
    write_relation(stream, snapshot, "virtjoule_platform_static_watts",
                   "What the machine draws beside the processors, as learned: a in a + b x RAPL.",
                   offsetof(struct platform_estimate, static_watts));
    write_relation(stream, snapshot, "virtjoule_platform_static_uncertainty_watts",
                   "Its standard uncertainty.", offsetof(struct platform_estimate, static_sigma));
    write_relation(stream, snapshot, "virtjoule_platform_slope",
                   "What the machine draws for each watt of the processors (without RAPL: for "
                   "each busy core), as learned: b.",
                   offsetof(struct platform_estimate, slope));
    write_relation(stream, snapshot, "virtjoule_platform_slope_uncertainty",
                   "Its standard uncertainty.", offsetof(struct platform_estimate, slope_sigma));
    write_relation(stream, snapshot, "virtjoule_platform_io_joules_per_byte",
                   "What a byte of block I/O costs beyond that; 0 where it cannot be told.",
                   offsetof(struct platform_estimate, io_joules_per_byte));
}

/* A metric with one whole number per VM. */
static void write_vm_number(FILE *stream, const struct snapshot *snapshot, const char *name,
                            const char *type, const char *help,
                            uint64_t (*value)(const struct snapshot_vm *))
{
    metrics_write_family(stream, name, type, help);
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        fprintf(stream, "%s{", name);
        write_vm(stream, &snapshot->vms[v]);
        fprintf(stream, "} %" PRIu64 "\n", value(&snapshot->vms[v]));
    }
}

static uint64_t vm_running(const struct snapshot_vm *vm)
{
    return vm->running;
}

static uint64_t vm_memory_bytes(const struct snapshot_vm *vm)
{
    return vm->memory_bytes;
}

static uint64_t vm_io_bytes(const struct snapshot_vm *vm)
{
    return vm->io_bytes;
}

static void write_vm_cpu(FILE *stream, const struct snapshot *snapshot)
{
    metrics_write_family(stream, "virtjoule_vm_cpu_seconds_total", "counter",
                         "CPU time of the VM's threads and helpers on the host.");
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        fputs("virtjoule_vm_cpu_seconds_total{", stream);
        write_vm(stream, &snapshot->vms[v]);
        fputs("} ", stream);
        metrics_write_seconds(stream, snapshot->vms[v].cpu_ns);
    }
}

static void write_vm_info(FILE *stream, const struct snapshot *snapshot)
{
    metrics_write_family(stream, "virtjoule_vm_info", "gauge", "What the VM is; always 1.");
    for (size_t v = 0; v < snapshot->n_vms; v++) {
        const struct snapshot_vm *vm = &snapshot->vms[v];

        fputs("virtjoule_vm_info{", stream);
        write_vm(stream, vm);
        fprintf(stream, ",manager=\"%s\",vcpus=\"%u\"} 1\n", vm_manager_to_string(vm->manager),
                vm->vcpus);
    }
}

static void write_reads(FILE *stream, const struct snapshot *snapshot)
{
    metrics_write_family(stream, "virtjoule_fuse_reads_total", "counter",
                         "Reads of the files in the VM's powercap tree.");
    for (size_t v = 0; v < snapshot->n_vms; v++)
        fprintf(stream, "virtjoule_fuse_reads_total{uuid=\"%s\"} %" PRIu64 "\n",
                snapshot->vms[v].uuid_text, snapshot->vms[v].tree_reads);
}

static void write_ticks(FILE *stream, const struct snapshot_health *health)
{
    uint64_t count = 0;

    metrics_write_family(stream, "virtjoule_tick_seconds", "histogram", "Time that one tick took.");
    for (size_t i = 0; i < TICK_BUCKETS; i++) {
        count += health->tick_buckets[i];
        fprintf(stream, "virtjoule_tick_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
                tick_bucket_seconds[i], count);
    }
    count += health->tick_buckets[TICK_BUCKETS];
    fprintf(stream, "virtjoule_tick_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", count);
    fputs("virtjoule_tick_seconds_sum ", stream);
    metrics_write_seconds(stream, health->tick_ns_sum);
    fprintf(stream, "virtjoule_tick_seconds_count %" PRIu64 "\n", count);

    metrics_write_family(stream, "virtjoule_ticks_missed_total", "counter",
                         "Ticks that did not take place because an earlier one took too long.");
    fprintf(stream, "virtjoule_ticks_missed_total %" PRIu64 "\n", health->ticks_missed);
    metrics_write_family(stream, "virtjoule_unlisted_processes", "gauge",
                         "Processes of VMs that are counted to the host since the table is full.");
    fprintf(stream, "virtjoule_unlisted_processes %" PRIu64 "\n", health->unlisted_processes);
}

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

int exporter_render(FILE *stream, const struct snapshot *snapshot, const char *version)
{
    write_build(stream, snapshot, version);
    if (snapshot) {
        write_energy(stream, snapshot);
        write_zones(stream, snapshot);
        write_baselines(stream, snapshot);
        write_meters(stream, snapshot);
        write_vm_cpu(stream, snapshot);
        write_vm_number(stream, snapshot, "virtjoule_vm_memory_bytes", "gauge",
                        "Memory of the VM that is resident on the host.", vm_memory_bytes);
        write_vm_number(stream, snapshot, "virtjoule_vm_block_io_bytes_total", "counter",
                        "Bytes the VM read from and wrote to block devices.", vm_io_bytes);
        write_vm_number(stream, snapshot, "virtjoule_vm_running", "gauge",
                        "Does a process of the VM run?", vm_running);
        write_vm_info(stream, snapshot);
        write_reads(stream, snapshot);
        write_ticks(stream, &snapshot->health);
    }
    return fflush(stream) != 0 || ferror(stream) ? -EIO : 0;
}
