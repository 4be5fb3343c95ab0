/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "../lib/machine.h"
#include "baseline/static_powers.h"

static const struct static_power learn = {.state = STATIC_LEARNING};

static void test_settings(void **state)
{
    const struct static_power_setting settings[] = {
        {"package-0", {STATIC_CONFIGURED, STATIC_FIXED, 20000000, 100000, 0}},
        {"dram", {STATIC_NONE, STATIC_LEARNING, 0, 0, 0}},
        {"elsewhere", {STATIC_CALIBRATED, STATIC_FIXED, 5, 0, 0}},
    };
    struct static_power others = {STATIC_CONFIGURED, STATIC_FIXED, 7, 0, 0};
    struct sample sample = {0};
    struct usage usage = {0};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, settings, ELEMENTS(settings), others, false),
                     0);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->origin, STATIC_NONE);
    assert_int_equal(static_powers_update(static_powers, &machine_zones, &sample, &usage), 0);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->power_uw, 20000000);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->uncertainty_uw, 100000);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->origin, STATIC_CONFIGURED);
    assert_int_equal(static_powers_get(static_powers, DRAM_0)->state, STATIC_LEARNING);
    assert_int_equal(static_powers_get(static_powers, DRAM_0)->power_uw, 0);
    assert_int_equal(static_powers_get(static_powers, PSYS)->power_uw, 7);
    static_powers_free(static_powers);
}

static void test_load(void **state)
{
    struct usage_vm vm = {.amount.sockets[0] = {.cpu_ns = 3 * NSEC_PER_SEC,
                                                .corun_ns = 2 * NSEC_PER_SEC,
                                                .llc_misses = 700},
                          .amount.sockets[1] = {.cpu_ns = 10 * NSEC_PER_SEC, .llc_misses = 5000}};
    struct usage usage = {.n_sockets = 2, .vms = &vm, .n_vms = 1};

    usage.host.sockets[0] = (struct usage_socket){.cpu_ns = NSEC_PER_SEC, .llc_misses = 300};
    /* Two siblings that run together for a second are one core for a second. */
    assert_true(zone_load(&machine_zones.zones[PACKAGE_0], &usage, NSEC_PER_SEC) == 3);
    assert_true(zone_load(&machine_zones.zones[PACKAGE_0], &usage, 2 * NSEC_PER_SEC) == 1.5);
    assert_true(zone_load(&machine_zones.zones[PSYS], &usage, NSEC_PER_SEC) == 13);
    assert_true(zone_load(&machine_zones.zones[DRAM_0], &usage, NSEC_PER_SEC) == 3);
    usage.features = USAGE_LLC_MISSES;
    assert_true(zone_load(&machine_zones.zones[DRAM_0], &usage, NSEC_PER_SEC) == 1000);
    assert_true(zone_load(&machine_zones.zones[PACKAGE_0], &usage, NSEC_PER_SEC) == 3);
}

/* The one VM keeps package-0 busy, with a load between 20 and 90 % of ten cores. */
static void run_second(struct machine *machine, unsigned *random)
{
    unsigned percent;

    *random = *random * 1103515245 + 12345;
    percent = 20 + (*random >> 16) % 71;
    machine_advance(machine);
    machine_amount(machine, 0)->sockets[0].cpu_ns = percent * NSEC_PER_SEC / 10;
    machine_measure(machine, PACKAGE_0, UINT64_C(40000000) + percent * UINT64_C(800000));
}

static void teach(struct static_powers *static_powers, const struct machine *machine)
{
    assert_int_equal(
        static_powers_update(static_powers, &machine->zones, &machine->sample, &machine->usage), 0);
}

static void test_only_whole_intervals_teach(void **state)
{
    struct machine machine;
    unsigned random = 1;
    struct static_powers *static_powers;

    machine_init(&machine, 1);
    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn, false), 0);
    for (int i = 0; i < 1500; i++) {
        run_second(&machine, &random);
        if (i % 3 == 1) {
            machine.sample.zones[PACKAGE_0].energy_uj = 1;
            machine.sample.zones[PACKAGE_0].gap = true;
        }
        if (i % 3 == 2)
            machine.sample.zones[PACKAGE_0] = (struct sample_zone){.valid = false, .energy_uj = 1};
        teach(static_powers, &machine);
    }
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->state, STATIC_LEARNED);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->origin, STATIC_FROM_LOAD);
    assert_in_range(static_powers_get(static_powers, PACKAGE_0)->power_uw, 38000000, 42000000);
    assert_int_equal(static_powers_get(static_powers, DRAM_0)->state, STATIC_LEARNING);
    static_powers_free(static_powers);
    machine_deinit(&machine);
}

/* The next daemon knows at once what this one has learned, and learns on. */
static void test_learned_is_kept(void **state)
{
    struct machine machine;
    unsigned random = 1;
    struct static_power learned, resumed;
    struct static_powers *static_powers;

    machine_init(&machine, 1);
    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn, false), 0);
    for (int i = 0; i < 600; i++) {
        run_second(&machine, &random);
        teach(static_powers, &machine);
    }
    learned = *static_powers_get(static_powers, PACKAGE_0);
    static_powers_free(static_powers);

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn, false), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &machine_zones), 0);
    static_powers_resume(static_powers, PACKAGE_0, &learned);
    for (int i = 0; i < 50; i++) {
        run_second(&machine, &random);
        teach(static_powers, &machine);
        resumed = *static_powers_get(static_powers, PACKAGE_0);
        assert_int_equal(resumed.origin, STATIC_FROM_LOAD);
        assert_int_equal(resumed.state, STATIC_LEARNING);
        assert_int_equal(resumed.power_uw, learned.power_uw);
        assert_int_equal(resumed.uncertainty_uw, learned.uncertainty_uw);
    }
    /* A host that draws less than what was known: at most what it draws. */
    machine.sample.zones[PACKAGE_0].energy_uj = learned.power_uw / 2;
    teach(static_powers, &machine);
    assert_in_range(static_powers_get(static_powers, PACKAGE_0)->power_uw, 1, learned.power_uw / 2);
    static_powers_free(static_powers);
    machine_deinit(&machine);
}

static void test_given_is_not_replaced(void **state)
{
    static const struct static_power given = {.origin = STATIC_CONFIGURED, .power_uw = 5},
                                     learned = {.origin = STATIC_FROM_LOAD, .power_uw = 7};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, given, false), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &machine_zones), 0);
    static_powers_resume(static_powers, PACKAGE_0, &learned);
    assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->power_uw, 5);
    static_powers_free(static_powers);
}

static void check_grown(const struct snapshot *before, const struct snapshot *after)
{
    const struct snapshot_zone *a = &before->zones[PACKAGE_0], *b = &after->zones[PACKAGE_0];

    assert_true(b->measured_uj >= a->measured_uj);
    assert_true(b->host_uj >= a->host_uj);
    assert_true(b->static_uj >= a->static_uj);
    assert_true(b->unattributed_uj >= a->unattributed_uj);
    assert_true(after->vms[0].dynamic_uj[PACKAGE_0] >= before->vms[0].dynamic_uj[PACKAGE_0]);
    assert_true(after->vms[0].static_uj[PACKAGE_0] >= before->vms[0].static_uj[PACKAGE_0]);
    for (unsigned zone = 0; zone < TREE_ZONES; zone++)
        assert_true(snapshot_energy_uj(after, &after->vms[0], zone, after->time_ns) >=
                    snapshot_energy_uj(before, &before->vms[0], zone, after->time_ns));
}

/* The platform learns its own elsewhere. */
static void test_set_elsewhere(void **state)
{
    const struct static_power given = {.origin = STATIC_FROM_LOAD, .power_uw = 77};
    struct machine machine;
    unsigned random = 1;
    struct static_powers *static_powers;

    machine_init(&machine, 1);
    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn, false), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &machine_zones), 0);
    static_powers_set(static_powers, PACKAGE_0, &given);
    for (int i = 0; i < 600; i++) {
        run_second(&machine, &random);
        teach(static_powers, &machine);
    }
    assert_memory_equal(static_powers_get(static_powers, PACKAGE_0), &given, sizeof(given));
    assert_ptr_equal(static_powers_by_slot(static_powers), static_powers_get(static_powers, 0));
    static_powers_free(static_powers);
    machine_deinit(&machine);
}

/* From the floor to learned, under a policy that shows guests the static energy too. */
static void test_learning_moves_no_counter_backwards(void **state)
{
    struct machine machine;
    unsigned random = 1;
    struct static_powers *static_powers;
    struct snapshot *last = NULL;
    uint64_t energy_uj = 0, dynamic_uj;

    machine_init(&machine, 1);
    machine_open_ledger(&machine, (struct ledger_config){.static_policy = STATIC_EQUAL});
    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn, false), 0);
    for (int i = 0; i < 600; i++) {
        struct snapshot *snapshot;

        run_second(&machine, &random);
        energy_uj += machine.sample.zones[PACKAGE_0].energy_uj;
        teach(static_powers, &machine);
        memcpy(machine.static_powers, static_powers_by_slot(static_powers),
               machine.zones.n * sizeof(*machine.static_powers));
        machine_record(&machine);
        snapshot = machine_snapshot(&machine);
        dynamic_uj = snapshot->vms[0].dynamic_uj[PACKAGE_0];
        assert_int_equal(snapshot->zones[PACKAGE_0].measured_uj, energy_uj);
        assert_int_equal(dynamic_uj + snapshot->zones[PACKAGE_0].static_uj, energy_uj);
        if (last)
            check_grown(last, snapshot);
        snapshot_free(last);
        last = snapshot;
        if (i == 0)
            assert_int_equal(dynamic_uj, 0);
        if (i < 50)
            assert_int_equal(static_powers_get(static_powers, PACKAGE_0)->origin, STATIC_FLOOR);
    }
    assert_true(last->zones[PACKAGE_0].static_uj > 300 * UINT64_C(38000000));
    snapshot_free(last);
    static_powers_free(static_powers);
    machine_deinit(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_only_whole_intervals_teach),
        cmocka_unit_test(test_learned_is_kept),
        cmocka_unit_test(test_given_is_not_replaced),
        cmocka_unit_test(test_set_elsewhere),
        cmocka_unit_test(test_learning_moves_no_counter_backwards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
