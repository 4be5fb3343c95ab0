/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <inttypes.h>
#include <stdio.h>

#include "fixture.h"
#include "requests/powercap_reader.h"

#define POWERCAP "class/powercap/intel-rapl"

static void write_zone(const char *root, const char *zone, const char *name, uint64_t max_uj)
{
    char max[32];

    snprintf(max, sizeof(max), "%" PRIu64 "\n", max_uj);
    fixture_write(root, name, POWERCAP ":%s/name", zone);
    fixture_write(root, max, POWERCAP ":%s/max_energy_range_uj", zone);
}

static void write_energy(const char *root, const char *zone, uint64_t energy_uj)
{
    char energy[32];

    snprintf(energy, sizeof(energy), "%" PRIu64 "\n", energy_uj);
    fixture_write(root, energy, POWERCAP ":%s/energy_uj", zone);
}

static void write_package(const char *root, uint64_t energy_uj)
{
    write_zone(root, "0", "package-0\n", 1000);
    write_energy(root, "0", energy_uj);
}

static struct powercap_reader *open_reader(const char *root)
{
    struct powercap_reader *reader = NULL;

    assert_int_equal(powercap_reader_new(&reader, root), 0);
    return reader;
}

static void assert_total(struct powercap_reader *reader, bool known, uint64_t energy_uj)
{
    struct powercap_energy energy;

    powercap_reader_read(reader, &energy);
    assert_int_equal(energy.known, known);
    assert_int_equal(energy.energy_uj, energy_uj);
}

/* The total begins at the first read, and goes on over a wrap. */
static void test_wrap(void **state)
{
    struct powercap_reader *reader;

    write_package(*state, 900);
    reader = open_reader(*state);
    assert_total(reader, true, 0);
    write_energy(*state, "0", 990);
    assert_total(reader, true, 90);
    write_energy(*state, "0", 40);
    assert_total(reader, true, 140);
    assert_total(reader, true, 140);
    powercap_reader_free(reader);
}

/* Several packages, each with its memory; what lies inside them counts once. */
static void test_zones(void **state)
{
    static const struct {
        const char *zone, *name;
        uint64_t before, after;
    } zones[] = {
        {"0", "package-0\n", 0, 1},    {"0:0", "core\n", 0, 10},      {"0:1", "dram\n", 0, 100},
        {"1", "package-1\n", 0, 1000}, {"1:0", "uncore\n", 0, 10000}, {"1:1", "dram\n", 0, 100000},
        {"2", "psys\n", 0, 1000000},
    };
    struct powercap_reader *reader;

    for (size_t i = 0; i < ELEMENTS(zones); i++) {
        write_zone(*state, zones[i].zone, zones[i].name, 1 << 30);
        write_energy(*state, zones[i].zone, zones[i].before);
    }
    reader = open_reader(*state);
    assert_total(reader, true, 0);
    for (size_t i = 0; i < ELEMENTS(zones); i++)
        write_energy(*state, zones[i].zone, zones[i].after);
    assert_total(reader, true, 101101);
    powercap_reader_free(reader);
}

/* The memory's zone goes: the package goes on, and what the zone counted is there when it returns.
 */
static void test_zone_goes(void **state)
{
    struct powercap_reader *reader;

    write_package(*state, 0);
    write_zone(*state, "0:0", "dram\n", 1000);
    write_energy(*state, "0:0", 0);
    reader = open_reader(*state);
    assert_total(reader, true, 0);
    fixture_remove(*state, POWERCAP ":0:0");
    write_energy(*state, "0", 10);
    assert_total(reader, true, 10);
    write_zone(*state, "0:0", "dram\n", 1000);
    write_energy(*state, "0:0", 7);
    assert_total(reader, true, 17);
    powercap_reader_free(reader);
}

static void test_psys_alone(void **state)
{
    struct powercap_reader *reader;

    write_zone(*state, "0", "psys\n", 1000);
    write_energy(*state, "0", 5);
    reader = open_reader(*state);
    assert_total(reader, true, 0);
    write_energy(*state, "0", 8);
    assert_total(reader, true, 3);
    powercap_reader_free(reader);
}

/* No tree; it is mounted; it vanishes; it returns, and the energy of meanwhile with it. */
static void test_tree_comes_and_goes(void **state)
{
    struct powercap_reader *reader = open_reader(*state);
    struct powercap_energy energy;

    assert_total(reader, false, 0);
    write_package(*state, 100);
    assert_total(reader, true, 0);
    write_energy(*state, "0", 110);
    assert_total(reader, true, 10);
    fixture_remove(*state, "class");
    assert_total(reader, false, 10);
    assert_total(reader, false, 10);
    write_package(*state, 150);
    assert_total(reader, true, 50);
    /* Another tree in its place: what was used meanwhile is unknown. */
    fixture_remove(*state, "class");
    assert_total(reader, false, 50);
    write_zone(*state, "0", "package-0\n", 5000);
    write_energy(*state, "0", 4000);
    powercap_reader_read(reader, &energy);
    assert_true(energy.known && energy.reset);
    assert_int_equal(energy.energy_uj, 50);
    write_energy(*state, "0", 4001);
    assert_total(reader, true, 51);
    powercap_reader_free(reader);
}

/* One interval late, or as old as the last sample; the machine's own tree is not late. */
static void test_delay(void **state)
{
    static const struct {
        const char *interval, *age;
        uint64_t delay_ns;
    } cases[] = {
        {"1000000\n", "300000\n", 1000000000},
        {"1000000\n", "2500000\n", 2500000000},
        {"100000\n", "garbage\n", 100000000},
        {"18446744073709551615\n", "0\n", 0},
        {"", "", 0},
    };
    struct powercap_energy energy;
    struct powercap_reader *reader;

    write_package(*state, 0);
    reader = open_reader(*state);
    powercap_reader_read(reader, &energy);
    assert_int_equal(energy.delay_ns, 0);
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        fixture_write(*state, cases[i].interval, "virtjoule/interval_us");
        fixture_write(*state, cases[i].age, "virtjoule/age_us");
        powercap_reader_read(reader, &energy);
        assert_int_equal(energy.delay_ns, cases[i].delay_ns);
    }
    powercap_reader_free(reader);
}

/* A counter that jumps by more than a machine can draw was reset. */
static void test_reset(void **state)
{
    struct powercap_energy energy;
    struct powercap_reader *reader;

    write_zone(*state, "0", "package-0\n", UINT64_C(1) << 62);
    write_energy(*state, "0", 1000);
    reader = open_reader(*state);
    assert_total(reader, true, 0);
    write_energy(*state, "0", 0);
    powercap_reader_read(reader, &energy);
    assert_true(energy.known && energy.reset);
    assert_int_equal(energy.energy_uj, 0);
    powercap_reader_free(reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_wrap),
        TEST(test_zones),
        TEST(test_zone_goes),
        TEST(test_psys_alone),
        TEST(test_tree_comes_and_goes),
        TEST(test_delay),
        TEST(test_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
