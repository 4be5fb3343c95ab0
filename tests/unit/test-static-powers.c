/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "baseline/static_powers.h"
#include "ledger/ledger.h"
#include "util/clock.h"

static const struct zone_set zones = {
    .n = 3,
    .zones =
        {
            {.name = "package-0", .kind = ZONE_PACKAGE, .socket = 0},
            {.name = "dram", .kind = ZONE_DRAM, .socket = 0},
            {.name = "psys", .kind = ZONE_PSYS, .socket = ZONE_ALL_SOCKETS},
        },
};
enum { PACKAGE, DRAM, PSYS };

static const struct static_power learn = {.state = STATIC_LEARNING};

static void test_settings(void **state)
{
    const struct static_power_setting settings[] = {
        {"package-0", {STATIC_CONFIGURED, STATIC_FIXED, 20000000, 100000}},
        {"dram", {STATIC_NONE, STATIC_LEARNING, 0, 0}},
        {"elsewhere", {STATIC_CALIBRATED, STATIC_FIXED, 5, 0}},
    };
    struct static_power others = {STATIC_CONFIGURED, STATIC_FIXED, 7, 0};
    struct sample sample = {0};
    struct usage usage = {0};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, settings, ELEMENTS(settings), others), 0);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->origin, STATIC_NONE);
    assert_int_equal(static_powers_update(static_powers, &zones, &sample, &usage), 0);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->power_uw, 20000000);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->uncertainty_uw, 100000);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->origin, STATIC_CONFIGURED);
    assert_int_equal(static_powers_get(static_powers, DRAM)->state, STATIC_LEARNING);
    assert_int_equal(static_powers_get(static_powers, DRAM)->power_uw, 0);
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
    assert_true(zone_load(&zones.zones[PACKAGE], &usage, NSEC_PER_SEC) == 3);
    assert_true(zone_load(&zones.zones[PACKAGE], &usage, 2 * NSEC_PER_SEC) == 1.5);
    assert_true(zone_load(&zones.zones[PSYS], &usage, NSEC_PER_SEC) == 13);
    assert_true(zone_load(&zones.zones[DRAM], &usage, NSEC_PER_SEC) == 3);
    usage.features = USAGE_LLC_MISSES;
    assert_true(zone_load(&zones.zones[DRAM], &usage, NSEC_PER_SEC) == 1000);
    assert_true(zone_load(&zones.zones[PACKAGE], &usage, NSEC_PER_SEC) == 3);
}

/* One VM that keeps package-0 busy, with a load between 20 and 90 % of ten cores. */
struct host {
    struct usage_vm vm;
    struct usage usage;
    struct sample sample;
    unsigned random;
};

static void run_second(struct host *host)
{
    unsigned percent;

    host->random = host->random * 1103515245 + 12345;
    percent = 20 + (host->random >> 16) % 71;
    host->vm.amount.sockets[0].cpu_ns = percent * NSEC_PER_SEC / 10;
    host->usage = (struct usage){.n_sockets = 1, .vms = &host->vm, .n_vms = 1};
    host->sample.time_ns += NSEC_PER_SEC;
    host->sample.zones[PACKAGE] =
        (struct sample_zone){.valid = true,
                             .energy_uj = UINT64_C(40000000) + percent * UINT64_C(800000),
                             .duration_ns = NSEC_PER_SEC};
}

static void test_only_whole_intervals_teach(void **state)
{
    struct host host = {.random = 1};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn), 0);
    for (int i = 0; i < 1500; i++) {
        run_second(&host);
        if (i % 3 == 1) {
            host.sample.zones[PACKAGE].energy_uj = 1;
            host.sample.zones[PACKAGE].gap = true;
        }
        if (i % 3 == 2)
            host.sample.zones[PACKAGE] = (struct sample_zone){.valid = false, .energy_uj = 1};
        assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
    }
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->state, STATIC_LEARNED);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->origin, STATIC_FROM_LOAD);
    assert_in_range(static_powers_get(static_powers, PACKAGE)->power_uw, 38000000, 42000000);
    assert_int_equal(static_powers_get(static_powers, DRAM)->state, STATIC_LEARNING);
    static_powers_free(static_powers);
}

/* The next daemon knows at once what this one has learned, and learns on. */
static void test_learned_is_kept(void **state)
{
    struct host host = {.random = 1};
    struct static_power learned, resumed;
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn), 0);
    for (int i = 0; i < 600; i++) {
        run_second(&host);
        assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
    }
    learned = *static_powers_get(static_powers, PACKAGE);
    static_powers_free(static_powers);

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &zones), 0);
    static_powers_resume(static_powers, PACKAGE, &learned);
    for (int i = 0; i < 50; i++) {
        run_second(&host);
        assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
        resumed = *static_powers_get(static_powers, PACKAGE);
        assert_int_equal(resumed.origin, STATIC_FROM_LOAD);
        assert_int_equal(resumed.state, STATIC_LEARNING);
        assert_int_equal(resumed.power_uw, learned.power_uw);
        assert_int_equal(resumed.uncertainty_uw, learned.uncertainty_uw);
    }
    /* A host that draws less than what was known: at most what it draws. */
    host.sample.zones[PACKAGE].energy_uj = learned.power_uw / 2;
    assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
    assert_in_range(static_powers_get(static_powers, PACKAGE)->power_uw, 1, learned.power_uw / 2);
    static_powers_free(static_powers);
}

static void test_given_is_not_replaced(void **state)
{
    static const struct static_power given = {.origin = STATIC_CONFIGURED, .power_uw = 5},
                                     learned = {.origin = STATIC_FROM_LOAD, .power_uw = 7};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, given), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &zones), 0);
    static_powers_resume(static_powers, PACKAGE, &learned);
    assert_int_equal(static_powers_get(static_powers, PACKAGE)->power_uw, 5);
    static_powers_free(static_powers);
}

static void check_grown(const struct snapshot *before, const struct snapshot *after)
{
    const struct snapshot_zone *a = &before->zones[PACKAGE], *b = &after->zones[PACKAGE];

    assert_true(b->measured_uj >= a->measured_uj);
    assert_true(b->host_uj >= a->host_uj);
    assert_true(b->static_uj >= a->static_uj);
    assert_true(b->unattributed_uj >= a->unattributed_uj);
    assert_true(after->vms[0].dynamic_uj[PACKAGE] >= before->vms[0].dynamic_uj[PACKAGE]);
    assert_true(after->vms[0].static_uj[PACKAGE] >= before->vms[0].static_uj[PACKAGE]);
    for (unsigned zone = 0; zone < TREE_ZONES; zone++)
        assert_true(snapshot_energy_uj(after, &after->vms[0], zone, after->time_ns) >=
                    snapshot_energy_uj(before, &before->vms[0], zone, after->time_ns));
}

/* The platform learns its own elsewhere. */
static void test_set_elsewhere(void **state)
{
    const struct static_power given = {.origin = STATIC_FROM_LOAD, .power_uw = 77};
    struct host host = {.random = 1};
    struct static_powers *static_powers;

    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn), 0);
    assert_int_equal(static_powers_add_zones(static_powers, &zones), 0);
    static_powers_set(static_powers, PACKAGE, &given);
    for (int i = 0; i < 600; i++) {
        run_second(&host);
        assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
    }
    assert_memory_equal(static_powers_get(static_powers, PACKAGE), &given, sizeof(given));
    assert_ptr_equal(static_powers_by_slot(static_powers), static_powers_get(static_powers, 0));
    static_powers_free(static_powers);
}

/* From none to learned, under a policy that shows guests the static energy too. */
static void test_learning_moves_no_counter_backwards(void **state)
{
    struct ledger_config config = {.static_policy = STATIC_EQUAL, .interval_ns = NSEC_PER_SEC};
    struct vm vm = {.running = true, .vcpus = 1, .name = "vm"};
    const struct vm_table vms = {&vm, 1};
    struct host host = {.random = 1};
    struct attribution_model *model;
    struct static_powers *static_powers;
    struct ledger *ledger;
    struct snapshot *last = NULL;
    uint64_t energy_uj = 0, dynamic_uj;

    assert_int_equal(cputime_model_new(&MODEL_OPTIONS_DEFAULT, &model), 0);
    config.model = model;
    assert_int_equal(ledger_new(&ledger, &config), 0);
    assert_int_equal(static_powers_new(&static_powers, NULL, 0, learn), 0);
    for (int i = 0; i < 600; i++) {
        struct snapshot *snapshot;

        run_second(&host);
        energy_uj += host.sample.zones[PACKAGE].energy_uj;
        assert_int_equal(ledger_update_vms(ledger, &vms, host.sample.time_ns), 0);
        assert_int_equal(ledger_record(ledger, &zones, &host.sample, &host.usage,
                                       static_powers_by_slot(static_powers)),
                         0);
        assert_int_equal(static_powers_update(static_powers, &zones, &host.sample, &host.usage), 0);
        assert_int_equal(
            ledger_snapshot(ledger, &zones, &host.sample, host.sample.time_ns, &snapshot), 0);
        dynamic_uj = snapshot->vms[0].dynamic_uj[PACKAGE];
        assert_int_equal(snapshot->zones[PACKAGE].measured_uj, energy_uj);
        assert_int_equal(dynamic_uj + snapshot->zones[PACKAGE].static_uj, energy_uj);
        if (last)
            check_grown(last, snapshot);
        snapshot_free(last);
        last = snapshot;
        if (i == 50)
            assert_int_equal(snapshot->zones[PACKAGE].static_uj, 0);
    }
    assert_true(last->zones[PACKAGE].static_uj > 300 * UINT64_C(38000000));
    snapshot_free(last);
    static_powers_free(static_powers);
    ledger_free(ledger);
    attribution_model_free(model);
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
