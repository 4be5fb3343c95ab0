/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/print.h"

#include <stdbool.h>
#include <string.h>

#include "util/macros.h"
#include "util/utf8.h"

static const char *text_of(struct json_object *object, const char *key)
{
    const char *text = json_object_get_string(json_object_object_get(object, key));

    return text ? text : "-";
}

static double number_of(struct json_object *object, const char *key)
{
    return json_object_get_double(json_object_object_get(object, key));
}

static bool is_true(struct json_object *object, const char *key)
{
    return json_object_get_boolean(json_object_object_get(object, key));
}

/* A name as the terminal may see it: no control characters, padded to a width. */
static void print_name(FILE *stream, const char *name, int width)
{
    int columns = 0;

    while (*name) {
        size_t length = utf8_character_length(name, strlen(name));
        bool printable = length > 1 ? (unsigned char)*name != 0xc2 || (unsigned char)name[1] > 0x9f
                                    : (unsigned char)*name >= ' ' && (unsigned char)*name < 0x7f;

        if (columns == width && width)
            break;
        if (printable)
            fwrite(name, 1, length, stream);
        else
            fputc('?', stream);
        name += length ? length : 1;
        columns++;
    }
    for (; columns < width; columns++)
        fputc(' ', stream);
}

static double sum_joules(struct json_object *vm, const char *key)
{
    struct json_object *zones = json_object_object_get(vm, key);
    double sum = 0;

    json_object_object_foreach(zones, zone, joules)
    {
        if (strncmp(zone, "package-", strlen("package-")) == 0)
            sum += json_object_get_double(joules);
    }
    return sum;
}

static void print_origin(FILE *stream, struct json_object *answer)
{
    if (is_true(answer, "estimate"))
        fputs("The energy is an ESTIMATE from CPU utilisation: this host has no sensor to read.\n",
              stream);
    else if (strcmp(text_of(answer, "source"), "modelled") == 0)
        fputs(
            "The energy is MODELLED from the power of the whole machine and CPU utilisation: this "
            "host has no RAPL to read.\n",
            stream);
    else
        fprintf(stream, "Energy from %s.\n", text_of(answer, "source"));
}

void print_list(FILE *stream, struct json_object *answer)
{
    struct json_object *vms = json_object_object_get(answer, "vms");

    print_origin(stream, answer);
    fprintf(stream, "%-36s  %-24s %-8s %5s %10s %14s %12s\n", "UUID", "NAME", "STATE", "VCPUS",
            "WATTS", "JOULES", "CPU SECONDS");
    for (size_t i = 0; i < json_object_array_length(vms); i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);

        fprintf(stream, "%-36s  ", text_of(vm, "uuid"));
        print_name(stream, text_of(vm, "name"), 24);
        fprintf(stream, " %-8s %5s %10.3f %14.3f %12.3f\n",
                is_true(vm, "running") ? "running" : "off", text_of(vm, "vcpus"),
                number_of(vm, "package_watts"),
                sum_joules(vm, "energy_joules") + sum_joules(vm, "static_energy_joules"),
                number_of(vm, "cpu_seconds"));
    }
}

static void print_zone_joules(FILE *stream, struct json_object *vm)
{
    struct json_object *dynamic = json_object_object_get(vm, "energy_joules");
    struct json_object *fixed = json_object_object_get(vm, "static_energy_joules");

    fprintf(stream, "%-20s %18s %18s\n", "ZONE", "DYNAMIC JOULES", "STATIC JOULES");
    json_object_object_foreach(dynamic, zone, joules) fprintf(
        stream, "%-20s %18s %18s\n", zone, json_object_get_string(joules), text_of(fixed, zone));
}

void print_vm(FILE *stream, struct json_object *answer)
{
    static const struct {
        const char *label;
        const char *key;
    } lines[] = {
        {"uuid", "uuid"},
        {"manager", "manager"},
        {"vcpus", "vcpus"},
        {"package watts", "package_watts"},
        {"cpu seconds", "cpu_seconds"},
        {"memory bytes", "memory_bytes"},
        {"block i/o bytes", "block_io_bytes"},
        {"model", "model"},
        {"static policy", "static_policy"},
        {"tree", "tree"},
        {"tree reads", "tree_reads"},
    };

    print_name(stream, text_of(answer, "name"), 0);
    fprintf(stream, " (%s)\n", is_true(answer, "running") ? "running" : "off");
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        fprintf(stream, "  %-16s %s\n", lines[i].label, text_of(answer, lines[i].key));
    print_zone_joules(stream, answer);
    print_origin(stream, answer);
}

static void print_static_power(FILE *stream, struct json_object *zone)
{
    struct json_object *baseline = json_object_object_get(zone, "baseline");

    fprintf(stream, "%-20s %18s %18s  %s, %s\n", text_of(zone, "name"), text_of(baseline, "watts"),
            text_of(baseline, "uncertainty_watts"), text_of(baseline, "origin"),
            text_of(baseline, "state"));
}

static void print_meter(FILE *stream, struct json_object *meter)
{
    struct json_object *relation = json_object_object_get(meter, "relation");

    fprintf(stream, "%-20s %18s %18s  %s, %s%s\n", text_of(meter, "source"),
            text_of(meter, "watts"), text_of(meter, "age_seconds"), text_of(meter, "state"),
            text_of(meter, "trust"), is_true(meter, "used") ? ", used" : "");
    if (!json_object_object_get(relation, "slope")) {
        fprintf(stream, "  relation to the processors: %s\n", text_of(relation, "state"));
        return;
    }
    fprintf(stream, "  %s: %s W (+- %s) + %s (+- %s) x processors + %s J per GB, %s s late\n",
            text_of(relation, "state"), text_of(relation, "static_watts"),
            text_of(relation, "static_uncertainty_watts"), text_of(relation, "slope"),
            text_of(relation, "slope_uncertainty"), text_of(relation, "io_joules_per_gigabyte"),
            text_of(relation, "delay_seconds"));
}

static void print_meters(FILE *stream, struct json_object *meters)
{
    if (!meters || json_object_array_length(meters) == 0)
        return;
    fprintf(stream, "\n%-20s %18s %18s  %s\n", "METER", "WATTS", "AGE SECONDS", "STATE");
    for (size_t i = 0; i < json_object_array_length(meters); i++)
        print_meter(stream, json_object_array_get_idx(meters, i));
}

void print_host(FILE *stream, struct json_object *answer)
{
    struct json_object *zones = json_object_object_get(answer, "zones");

    print_origin(stream, answer);
    fprintf(stream,
            "usage from %s, model %s, static policy %s, interval %s s, %s ticks, %s missed\n",
            text_of(answer, "usage_provider"), text_of(answer, "model"),
            text_of(answer, "static_policy"), text_of(answer, "interval_seconds"),
            text_of(answer, "ticks"), text_of(answer, "ticks_missed"));
    fprintf(stream, "%-20s %18s %18s %18s %18s\n", "ZONE (JOULES)", "MEASURED", "HOST", "STATIC",
            "UNATTRIBUTED");
    for (size_t i = 0; i < json_object_array_length(zones); i++) {
        struct json_object *zone = json_object_array_get_idx(zones, i);

        fprintf(stream, "%-20s %18s %18s %18s %18s%s\n", text_of(zone, "name"),
                text_of(zone, "measured_joules"), text_of(zone, "host_joules"),
                text_of(zone, "static_joules"), text_of(zone, "unattributed_joules"),
                is_true(zone, "readable") ? "" : "  (unreadable now)");
    }
    fprintf(stream, "\n%-20s %18s %18s  %s\n", "ZONE (WATTS)", "BASELINE", "UNCERTAINTY", "ORIGIN");
    for (size_t i = 0; i < json_object_array_length(zones); i++)
        print_static_power(stream, json_object_array_get_idx(zones, i));
    print_meters(stream, json_object_object_get(answer, "meters"));
}

void print_json(struct json_object *object)
{
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
}
