/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../lib/snapshot_fixture.h"
#include "publish/exporter.h"

static char *render(const struct snapshot *snapshot)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);

    assert_non_null(stream);
    assert_int_equal(exporter_render(stream, snapshot, "1.2.3"), 0);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(strlen(text), length);
    return text;
}

/* Is there a line that is just this? */
static bool has_line(const char *text, const char *line)
{
    size_t length = strlen(line);

    for (const char *p = text; (p = strstr(p, line)); p++)
        if ((p == text || p[-1] == '\n') && p[length] == '\n')
            return true;
    return false;
}

static void assert_lines(const char *text, const char *const *lines, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!has_line(text, lines[i]))
            fail_msg("no line: %s\nin:\n%s", lines[i], text);
}

static struct snapshot *two_vms(void)
{
    struct snapshot_vm vms[2];
    struct snapshot *snapshot;

    fixture_vm(&vms[0], 1, 0xa, "web");
    vms[0].manager = VM_MANAGER_LIBVIRT;
    vms[0].vcpus = 4;
    vms[0].dynamic_uj[0] = 1000001;
    vms[0].static_uj[0] = 7;
    vms[0].cpu_ns = 12000000034;
    vms[0].memory_bytes = 4096;
    vms[0].io_bytes = 512;
    vms[0].tree_reads = 99;
    fixture_vm(&vms[1], 2, 0xb, "off");
    vms[1].running = false;
    vms[1].has_tree = false;
    vms[1].dynamic_uj[0] = 2;
    snapshot = fixture_snapshot(vms, 2);
    snapshot->n_zones = 3;
    strcpy(snapshot->zones[0].zone.name, "package-0");
    snapshot->zones[0].readable = true;
    snapshot->zones[0].host_uj = 3000000;
    snapshot->zones[0].static_uj = 40;
    snapshot->zones[0].unattributed_uj = 5;
    snapshot->zones[0].measured_uj = 1000001 + 2 + 3000000 + 40 + 5;
    snapshot->zones[0].static_power =
        (struct static_power){STATIC_FROM_LOAD, STATIC_NOT_IDENTIFIABLE, 40000001, 1500000, 0};
    strcpy(snapshot->zones[1].zone.name, "core"); /* never read */
    strcpy(snapshot->zones[2].zone.name, "dram"); /* read once, gone since */
    snapshot->zones[2].measured_uj = snapshot->zones[2].unattributed_uj = 1;
    snapshot->health.ticks_missed = 3;
    snapshot->health.unlisted_processes = 4;
    snapshot->health.tick_buckets[0] = 5;
    snapshot->health.tick_buckets[2] = 1;
    snapshot->health.tick_buckets[TICK_BUCKETS] = 2;
    snapshot->health.tick_ns_sum = 1500000000;
    return snapshot;
}

#define WEB "uuid=\"00000000-0000-0000-0000-00000000000a\",name=\"web\""
#define OFF "uuid=\"00000000-0000-0000-0000-00000000000b\",name=\"off\""
#define BUILD_INFO                                                                                 \
    "virtjoule_build_info{version=\"1.2.3\",usage_provider=\"procfs\",model=\"cputime\","          \
    "static_policy=\"exclude\"} 1"
#define RAPL_PACKAGE "source=\"rapl\",zone=\"package-0\""

static void test_render(void **state)
{
    static const char *const lines[] = {
        "# TYPE virtjoule_source_energy_joules_total counter",
        "virtjoule_source_energy_joules_total{" RAPL_PACKAGE "} 4.000048",
        "virtjoule_vm_energy_joules_total{" WEB "," RAPL_PACKAGE "} 1.000001",
        "virtjoule_vm_energy_joules_total{" OFF "," RAPL_PACKAGE "} 0.000002",
        "virtjoule_vm_static_energy_joules_total{" WEB "," RAPL_PACKAGE "} 0.000007",
        "virtjoule_host_energy_joules_total{" RAPL_PACKAGE "} 3.000000",
        "virtjoule_static_energy_joules_total{" RAPL_PACKAGE "} 0.000040",
        "virtjoule_unattributed_energy_joules_total{" RAPL_PACKAGE "} 0.000005",
        "virtjoule_source_energy_joules_total{source=\"rapl\",zone=\"dram\"} 0.000001",
        "virtjoule_zone_readable{" RAPL_PACKAGE "} 1",
        "virtjoule_zone_readable{source=\"rapl\",zone=\"core\"} 0",
        "virtjoule_zone_readable{source=\"rapl\",zone=\"dram\"} 0",
        "virtjoule_baseline_watts{" RAPL_PACKAGE
        ",origin=\"learned\",state=\"not-identifiable\"} 40.000001",
        "virtjoule_baseline_watts{source=\"rapl\",zone=\"core\",origin=\"none\","
        "state=\"fixed\"} 0.000000",
        "virtjoule_baseline_uncertainty_watts{" RAPL_PACKAGE "} 1.500000",
        "virtjoule_vm_cpu_seconds_total{" WEB "} 12.000000034",
        "virtjoule_vm_memory_bytes{" WEB "} 4096",
        "virtjoule_vm_block_io_bytes_total{" WEB "} 512",
        "virtjoule_vm_running{" WEB "} 1",
        "virtjoule_vm_running{" OFF "} 0",
        "virtjoule_vm_info{" WEB ",manager=\"libvirt\",vcpus=\"4\"} 1",
        "virtjoule_vm_info{" OFF ",manager=\"none\",vcpus=\"1\"} 1",
        "virtjoule_fuse_reads_total{uuid=\"00000000-0000-0000-0000-00000000000a\"} 99",
        "# TYPE virtjoule_tick_seconds histogram",
        "virtjoule_tick_seconds_bucket{le=\"0.0005\"} 5",
        "virtjoule_tick_seconds_bucket{le=\"0.001\"} 5",
        "virtjoule_tick_seconds_bucket{le=\"0.005\"} 6",
        "virtjoule_tick_seconds_bucket{le=\"1\"} 6",
        "virtjoule_tick_seconds_bucket{le=\"+Inf\"} 8",
        "virtjoule_tick_seconds_sum 1.500000000",
        "virtjoule_tick_seconds_count 8",
        "virtjoule_ticks_missed_total 3",
        "virtjoule_unlisted_processes 4",
        BUILD_INFO,
    };
    struct snapshot *snapshot = two_vms();
    char *text = render(snapshot);

    assert_lines(text, lines, ELEMENTS(lines));
    assert_null(strstr(text, "joules_total{source=\"rapl\",zone=\"core\""));
    assert_null(strstr(text, "source=\"rapl\",zone=\"core\"} 0."));
    free(text);
    snapshot_free(snapshot);
}

/* No energy row may leave its origin out. */
static void test_estimate_is_labelled(void **state)
{
    struct snapshot *snapshot = two_vms();
    unsigned rows = 0;
    char *text, *rest = NULL;

    snapshot->source = "estimate";
    snapshot->estimate = true;
    text = render(snapshot);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (*line == '#' || !strstr(line, "joules"))
            continue;
        assert_non_null(strstr(line, "source=\"estimate\""));
        rows++;
    }
    assert_int_equal(rows, 2 * 4 + 2 * 2 * 2); /* zones x families, VMs x zones x families */
    free(text);
    snapshot_free(snapshot);
}

static void test_meters(void **state)
{
    static const char *const lines[] = {
        ("virtjoule_meter_info{source=\"dcmi\",state=\"ok\",trust=\"trusted\","
         "learning=\"learned\",used=\"yes\"} 1"),
        ("virtjoule_meter_info{source=\"snmp\",state=\"silent\",trust=\"silent\","
         "learning=\"learning\",used=\"no\"} 1"),
        "virtjoule_platform_watts{source=\"dcmi\"} 364",
        "virtjoule_meter_age_seconds{source=\"dcmi\"} 2.5",
        "virtjoule_meter_delay_seconds{source=\"dcmi\"} 3.5",
        "virtjoule_platform_static_watts{source=\"dcmi\"} 177.8",
        "virtjoule_platform_static_uncertainty_watts{source=\"dcmi\"} 1.5",
        "virtjoule_platform_slope{source=\"dcmi\"} 1.334",
        "virtjoule_platform_slope_uncertainty{source=\"dcmi\"} 0.01",
        "virtjoule_platform_io_joules_per_byte{source=\"dcmi\"} 2e-08",
        "virtjoule_source_energy_joules_total{source=\"modelled\",zone=\"package-0\"} 4.000048",
    };
    struct snapshot *snapshot = two_vms();
    char *text;

    snapshot->time_ns = 10000000000;
    snapshot->zones[0].zone.source = "modelled";
    fixture_meters(snapshot);
    text = render(snapshot);
    assert_lines(text, lines, ELEMENTS(lines));
    /* What is not known is not there, neither before nor after it falls silent. */
    snapshot->meters[1].known.trust = PLATFORM_UNKNOWN;
    free(text);
    text = render(snapshot);
    assert_null(strstr(text, "virtjoule_platform_watts{source=\"snmp\"}"));
    assert_null(strstr(text, "virtjoule_meter_age_seconds{source=\"snmp\"}"));
    assert_null(strstr(text, "virtjoule_platform_static_watts{source=\"snmp\"}"));
    free(text);
    snapshot_free(snapshot);
}

static void test_before_the_first(void **state)
{
    char *text = render(NULL);

    assert_true(has_line(text, "virtjoule_build_info{version=\"1.2.3\"} 1"));
    assert_null(strstr(text, "joules"));
    free(text);
}

static void test_escaping(void **state)
{
    static const struct {
        const char *name, *label;
    } cases[] = {
        {"a\"b\\c\nd", "a\\\"b\\\\c\\nd"},
        {"\"} 1\nvirtjoule_forged 1\n", "\\\"} 1\\nvirtjoule_forged 1\\n"},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"\xff\xfex", "\xef\xbf\xbd\xef\xbf\xbdx"},
        {"cut\xe2\x82", "cut\xef\xbf\xbd\xef\xbf\xbd"},
        {"\x1b[2J\t\r\x7f", "\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"", ""},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct snapshot_vm vm;
        struct snapshot *snapshot;
        char line[512], *text;

        fixture_vm(&vm, 1, 1, cases[i].name);
        snapshot = fixture_snapshot(&vm, 1);
        text = render(snapshot);
        snprintf(
            line, sizeof(line),
            "virtjoule_vm_running{uuid=\"00000000-0000-0000-0000-000000000001\",name=\"%s\"} 1",
            cases[i].label);
        assert_lines(text, (const char *const[]){line}, 1);
        free(text);
        snapshot_free(snapshot);
    }

    /* A name that fills its field has no NUL to stop at. */
    {
        struct snapshot_vm vm;
        struct snapshot *snapshot;
        char *text;

        fixture_vm(&vm, 1, 1, "");
        memset(vm.name, 'n', sizeof(vm.name));
        snapshot = fixture_snapshot(&vm, 1);
        text = render(snapshot);
        assert_non_null(strstr(text, "nnn\"} 1\n"));
        free(text);
        snapshot_free(snapshot);
    }
}

/* Adds the row to its zone's sum, in microjoules; anything but D.DDDDDD is an error. */
static void add_row(const char *line, const char *family, uint64_t sums[ZONES_MAX])
{
    const char *zone = strstr(line, "zone=\"z");
    uint64_t joules, micro;
    unsigned index;
    int end = 0;

    if (strncmp(line, family, strlen(family)) != 0 || line[strlen(family)] != '{')
        return;
    assert_non_null(zone);
    assert_int_equal(
        sscanf(zone, "zone=\"z%u\"} %" SCNu64 ".%6" SCNu64 "%n", &index, &joules, &micro, &end), 3);
    assert_int_equal(zone[end], '\0');
    assert_int_equal(line[strlen(line) - 7], '.');
    sums[index] += joules * 1000000 + micro;
}

/* In the text itself the parts are the whole, for numbers that no double holds. */
static void test_parts_are_the_whole(void **state)
{
    static const char *const parts[] = {
        "virtjoule_vm_energy_joules_total",
        "virtjoule_host_energy_joules_total",
        "virtjoule_static_energy_joules_total",
        "virtjoule_unattributed_energy_joules_total",
    };
    uint64_t measured[ZONES_MAX] = {0}, sums[ZONES_MAX] = {0};
    struct snapshot_vm vms[50];
    struct snapshot *snapshot;
    char *text, *rest = NULL;
    uint64_t random = 88172645463325252;

    for (unsigned i = 0; i < ELEMENTS(vms); i++) {
        fixture_vm(&vms[i], i + 1, i, "vm");
        vms[i].running = i % 3;
        for (unsigned z = 0; z < 5; z++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            vms[i].dynamic_uj[z] = random >> 8;
        }
    }
    snapshot = fixture_snapshot(vms, ELEMENTS(vms));
    snapshot->n_zones = 5;
    for (unsigned z = 0; z < 5; z++) {
        struct snapshot_zone *zone = &snapshot->zones[z];

        snprintf(zone->zone.name, sizeof(zone->zone.name), "z%u", z);
        zone->host_uj = 999999;
        zone->static_uj = UINT64_C(9007199254740993); /* 2^53 + 1 */
        zone->unattributed_uj = z;
        zone->measured_uj = zone->host_uj + zone->static_uj + zone->unattributed_uj;
        for (unsigned i = 0; i < ELEMENTS(vms); i++)
            zone->measured_uj += snapshot->vms[i].dynamic_uj[z];
    }
    text = render(snapshot);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        add_row(line, "virtjoule_source_energy_joules_total", measured);
        for (size_t i = 0; i < ELEMENTS(parts); i++)
            add_row(line, parts[i], sums);
    }
    for (unsigned z = 0; z < 5; z++) {
        assert_true(measured[z] == snapshot->zones[z].measured_uj);
        assert_true(sums[z] == measured[z]);
    }
    free(text);
    snapshot_free(snapshot);
}

static void test_full_disk(void **state)
{
    FILE *stream = fopen("/dev/full", "w");
    struct snapshot *snapshot = two_vms();

    assert_non_null(stream);
    assert_int_equal(exporter_render(stream, snapshot, "1"), -EIO);
    fclose(stream);
    snapshot_free(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),    cmocka_unit_test(test_estimate_is_labelled),
        cmocka_unit_test(test_meters),    cmocka_unit_test(test_before_the_first),
        cmocka_unit_test(test_escaping),  cmocka_unit_test(test_parts_are_the_whole),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
