/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "source/rapl.h"

static void test_zone_names(void **state)
{
    static const struct {
        const char *sysname, *name, *parent;
        int r;
        const char *zone;
        enum zone_kind kind;
        int socket;
    } cases[] = {
        {"intel-rapl:0", "package-0", NULL, 0, "package-0", ZONE_PACKAGE, 0},
        {"intel-rapl:1", "package-1", NULL, 0, "package-1", ZONE_PACKAGE, 1},
        {"intel-rapl:1", "package-0-die-1", NULL, 0, "package-0-die-1", ZONE_PACKAGE, 0},
        {"intel-rapl:0:0", "core", "package-0", 0, "core", ZONE_CORE, 0},
        {"intel-rapl:0:1", "uncore", "package-0", 0, "uncore", ZONE_UNCORE, 0},
        {"intel-rapl:1:2", "dram", "package-1", 0, "dram-1", ZONE_DRAM, 1},
        {"intel-rapl:1:0", "dram", "package-0-die-1", 0, "dram-0-die-1", ZONE_DRAM, 0},
        {"intel-rapl:2", "psys", NULL, 0, "psys", ZONE_PSYS, ZONE_ALL_SOCKETS},
        {"intel-rapl-mmio:0", "package-0", NULL, -EINVAL, NULL, 0, 0},
        {"dtpm:0", "package-0", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0", "package", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0", "package-x", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0", "package-0-die-", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0", "package-0-die-1x", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0", "", NULL, -EINVAL, NULL, 0, 0},
        {"intel-rapl:0:0", "cache", "package-0", -EINVAL, NULL, 0, 0},
        {"intel-rapl:0:0", "core", "psys", -EINVAL, NULL, 0, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct zone zone = {0};

        assert_int_equal(rapl_parse_zone(cases[i].sysname, cases[i].name, cases[i].parent, &zone),
                         cases[i].r);
        if (cases[i].r < 0)
            continue;
        assert_string_equal(zone.name, cases[i].zone);
        assert_int_equal(zone.kind, cases[i].kind);
        assert_int_equal(zone.socket, cases[i].socket);
    }
}

/* Writes one zone as the kernel shows it: a directory under class/powercap. */
static void add_zone(const char *root, const char *sysname, const char *name, const char *energy,
                     const char *max)
{
    fixture_write(root, name, "class/powercap/%s/name", sysname);
    fixture_write(root, energy, "class/powercap/%s/energy_uj", sysname);
    fixture_write(root, max, "class/powercap/%s/max_energy_range_uj", sysname);
}

static const struct reading *read_zone(struct energy_source *source, const char *zone)
{
    static struct reading readings[ZONES_MAX];

    memset(readings, 0xff, sizeof(readings));
    source->ops->read(source, readings);
    for (size_t i = 0; i < source->zones.n; i++)
        if (strcmp(source->zones.zones[i].name, zone) == 0)
            return &readings[i];
    return NULL;
}

static void add_server(const char *root)
{
    add_zone(root, "intel-rapl:0", "package-0\n", "1000\n", "262143328850\n");
    add_zone(root, "intel-rapl:0:0", "dram\n", "20\n", "65712999613\n");
    add_zone(root, "intel-rapl:1", "package-1\n", "3000\n", "262143328850\n");
    add_zone(root, "intel-rapl:1:0", "dram\n", "40\n", "65712999613\n");
    add_zone(root, "intel-rapl:2", "psys\n", "5000\n", "262143328850\n");
    add_zone(root, "intel-rapl:3", "psys\n", "0\n", "262143328850\n");
    add_zone(root, "intel-rapl-mmio:0", "package-0\n", "1000\n", "262143328850\n");
}

static void test_all_zones(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;

    add_server(root);
    assert_int_equal(rapl_new(&source, root), 0);
    assert_int_equal(source->zones.n, 6);
    assert_int_equal(read_zone(source, "package-0")->energy_uj, 1000);
    assert_int_equal(read_zone(source, "dram")->energy_uj, 20);
    assert_int_equal(read_zone(source, "package-1")->energy_uj, 3000);
    assert_int_equal(read_zone(source, "dram-1")->energy_uj, 40);
    assert_int_equal(read_zone(source, "psys")->energy_uj, 5000);
    assert_int_equal(read_zone(source, "psys-3")->energy_uj, 0);
    assert_true(read_zone(source, "psys")->valid);
    energy_source_free(source);
}

static void test_amd_core_is_left_out(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;

    fixture_write(root, "cpu:type:x86,ven0002fam0019mod0011:feature:,0000\n",
                  "devices/system/cpu/modalias");
    add_zone(root, "intel-rapl:0", "package-0\n", "1000\n", "65532610987\n");
    add_zone(root, "intel-rapl:0:0", "core\n", "10\n", "65532610987\n");
    assert_int_equal(rapl_new(&source, root), 0);
    assert_int_equal(source->zones.n, 1);
    energy_source_free(source);
}

/* One zone broken in each way; the good one goes on. */
static void test_broken_zones_are_left_out(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;

    add_zone(root, "intel-rapl:0", "package-0\n", "1000\n", "0\n");
    add_zone(root, "intel-rapl:1", "package-1\n", "1000\n", "lots\n");
    add_zone(root, "intel-rapl:2", "", "1000\n", "65532610987\n");
    add_zone(root, "intel-rapl:3", "package-3\n", "1000\n", "65532610987\n");
    fixture_write(root, "package-4\n", "class/powercap/intel-rapl:4/name");
    assert_int_equal(rapl_new(&source, root), 0);
    assert_int_equal(source->zones.n, 1);
    assert_int_equal(read_zone(source, "package-3")->energy_uj, 1000);
    energy_source_free(source);
}

static void test_bad_energy(void **state)
{
    static const char *const bad[] = {
        "", "\n", "garbage\n", "-1\n", "12 34\n", "99999999999999999999999\n", "65532610988\n"};
    const char *root = *state;
    struct energy_source *source = NULL;

    add_zone(root, "intel-rapl:0", "package-0\n", "1000\n", "65532610987\n");
    assert_int_equal(rapl_new(&source, root), 0);
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        fixture_write(root, bad[i], "class/powercap/intel-rapl:0/energy_uj");
        assert_false(read_zone(source, "package-0")->valid);
    }
    fixture_write(root, "65532610987", "class/powercap/intel-rapl:0/energy_uj");
    assert_true(read_zone(source, "package-0")->valid);
    energy_source_free(source);
}

static void test_zone_vanishes_and_returns(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;

    add_zone(root, "intel-rapl:0", "package-0\n", "1000\n", "65532610987\n");
    add_zone(root, "intel-rapl:1", "package-1\n", "1000\n", "65532610987\n");
    assert_int_equal(rapl_new(&source, root), 0);
    fixture_remove(root, "class/powercap/intel-rapl:1/energy_uj");
    assert_false(read_zone(source, "package-1")->valid);
    assert_true(read_zone(source, "package-0")->valid);
    /* What comes back under its directory's name may be another zone. */
    add_zone(root, "intel-rapl:1", "package-7\n", "5\n", "65532610987\n");
    assert_false(read_zone(source, "package-1")->valid);
    add_zone(root, "intel-rapl:1", "package-1\n", "5\n", "65532610987\n");
    assert_true(read_zone(source, "package-1")->valid);
    assert_int_equal(read_zone(source, "package-1")->energy_uj, 5);
    energy_source_free(source);
}

static void test_no_zones(void **state)
{
    const char *root = *state;
    struct energy_source *source = NULL;
    char missing[4096];

    snprintf(missing, sizeof(missing), "%s/missing", root);
    assert_int_equal(rapl_new(&source, missing), -ENOENT);
    fixture_write(root, "", "class/powercap/dtpm/enabled");
    assert_int_equal(rapl_new(&source, root), -ENOENT);
    assert_null(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zone_names),
        cmocka_unit_test_setup_teardown(test_all_zones, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_amd_core_is_left_out, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_broken_zones_are_left_out, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bad_energy, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_zone_vanishes_and_returns, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_zones, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
