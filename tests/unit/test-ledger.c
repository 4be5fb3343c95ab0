/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "conservation.h"
#include "ledger/ledger.h"
#include "util/clock.h"

/* Two sockets with DRAM, and psys over both. */
static const struct zone_set zones = {
    .n = 5,
    .zones =
        {
            {.name = "package-0", .kind = ZONE_PACKAGE, .socket = 0},
            {.name = "dram", .kind = ZONE_DRAM, .socket = 0},
            {.name = "package-1", .kind = ZONE_PACKAGE, .socket = 1},
            {.name = "dram-1", .kind = ZONE_DRAM, .socket = 1},
            {.name = "psys", .kind = ZONE_PSYS, .socket = ZONE_ALL_SOCKETS},
        },
};
enum { PACKAGE_0, DRAM, PACKAGE_1, DRAM_1, PSYS };

#define SECOND(n) ((uint64_t)(n)*NSEC_PER_SEC)

struct host {
    struct ledger *ledger;
    struct vm vms[3];
    struct usage_vm usage_vms[3];
    struct vm_table table;
    struct usage usage;
    struct sample sample;
    struct static_power static_powers[ZONES_MAX];
    uint64_t time_ns;
    struct attribution_model *model;
};

static void host_deinit(struct host *host)
{
    ledger_free(host->ledger);
    attribution_model_free(host->model);
}

static void host_init(struct host *host, enum static_policy policy)
{
    struct ledger_config config = {
        .static_policy = policy,
        .interval_ns = NSEC_PER_SEC,
    };

    memset(host, 0, sizeof(*host));
    assert_int_equal(cputime_model_new(&MODEL_OPTIONS_DEFAULT, &host->model), 0);
    config.model = host->model;
    assert_int_equal(ledger_new(&host->ledger, &config), 0);
    for (int i = 0; i < 3; i++) {
        host->vms[i].uuid[15] = (unsigned char)(i + 1);
        snprintf(host->vms[i].name, VM_NAME_MAX, "vm%d", i);
        host->vms[i].running = true;
        host->vms[i].vcpus = (unsigned)i + 1;
        uuid_copy(host->usage_vms[i].uuid, host->vms[i].uuid);
    }
    host->table = (struct vm_table){host->vms, 3};
    host->usage = (struct usage){.n_sockets = 2, .vms = host->usage_vms, .n_vms = 3};
    host->time_ns = SECOND(100);
}

static void set_energy(struct host *host, size_t slot, uint64_t energy_uj)
{
    host->sample.zones[slot] =
        (struct sample_zone){.valid = true, .energy_uj = energy_uj, .duration_ns = SECOND(1)};
}

static void record(struct host *host)
{
    host->time_ns += SECOND(1);
    host->sample.time_ns = host->time_ns;
    assert_int_equal(ledger_update_vms(host->ledger, &host->table, host->time_ns), 0);
    assert_int_equal(
        ledger_record(host->ledger, &zones, &host->sample, &host->usage, host->static_powers), 0);
}

static struct snapshot *take_snapshot(struct host *host)
{
    struct snapshot *snapshot = NULL;

    assert_int_equal(ledger_snapshot(host->ledger, &zones, &host->sample, host->time_ns, &snapshot),
                     0);
    assert_conserved(snapshot);
    return snapshot;
}

/* A tree before the VM is seen, through a refresh that still lists its former life. */
static void test_prepared_has_tree(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.table.n = 2;
    record(&host);
    assert_int_equal(ledger_prepare_vm(host.ledger, host.vms[1].uuid, host.time_ns), 0);
    assert_int_equal(ledger_prepare_vm(host.ledger, host.vms[2].uuid, host.time_ns), 0);
    record(&host);
    host.table.n = 1;
    host.time_ns += LEDGER_PREPARED_NS - SECOND(3);
    record(&host);
    ledger_expire(host.ledger, host.time_ns, NULL, NULL);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->n_vms, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(snapshot->vms[i].has_tree);
    assert_false(snapshot->vms[2].running);
    assert_string_equal(snapshot->vms[2].name, "00000000-0000-0000-0000-000000000003");
    snapshot_free(snapshot);
    record(&host);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_true(snapshot->vms[0].has_tree);
    assert_false(snapshot->vms[1].has_tree);
    assert_false(snapshot->vms[2].has_tree);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_sockets_are_kept_apart(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.usage_vms[0].amount.sockets[0].cpu_ns = SECOND(1);
    host.usage_vms[1].amount.sockets[1].cpu_ns = SECOND(1);
    host.usage.host.sockets[0].cpu_ns = SECOND(3);
    set_energy(&host, PACKAGE_0, 40000000);
    set_energy(&host, PACKAGE_1, 10000000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_0], 10000000);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_1], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PACKAGE_0], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PACKAGE_1], 10000000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PACKAGE_0], 0);
    assert_int_equal(snapshot->zones[PACKAGE_0].host_uj, 30000000);
    assert_int_equal(snapshot->vms[0].cpu_ns, SECOND(1));
    /* The guest's package is the sum of the host's, and psys is no part of it. */
    assert_int_equal(snapshot->vms[0].tree[TREE_PACKAGE].to_uj, 10000000);
    assert_int_equal(snapshot->vms[0].tree_zones, 1u << TREE_PACKAGE | 1u << TREE_DRAM);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_dram_goes_by_memory(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.usage_vms[0].amount.sockets[0].memory_bytes = 1u << 30;
    host.usage_vms[2].amount.sockets[0].memory_bytes = 2u << 30;
    host.usage.host.sockets[0].memory_bytes = 1u << 30;
    set_energy(&host, DRAM, 4000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM], 1000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[DRAM], 2000);
    assert_int_equal(snapshot->zones[DRAM].host_uj, 1000);
    snapshot_free(snapshot);
    host_deinit(&host);
}

/* A VM whose memory is all on the other node has nothing of this node's energy. */
static void test_dram_of_a_node_goes_to_who_lives_there(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.usage_vms[0].amount.sockets[0].memory_bytes = 8u << 20;
    host.usage_vms[1].amount.sockets[1].memory_bytes = 3u << 20;
    host.usage.host.sockets[1].memory_bytes = 1u << 20;
    set_energy(&host, DRAM, 5000);
    set_energy(&host, DRAM_1, 4000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM], 5000);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM_1], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[DRAM], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[DRAM_1], 3000);
    assert_int_equal(snapshot->zones[DRAM].host_uj, 0);
    assert_int_equal(snapshot->zones[DRAM_1].host_uj, 1000);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_no_usage_is_unattributed(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    set_energy(&host, PACKAGE_0, 1234567);
    record(&host);
    host.usage.host.sockets[0].cpu_ns = 1;
    set_energy(&host, PACKAGE_0, 100);
    host.sample.zones[PACKAGE_0].gap = true;
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->zones[PACKAGE_0].unattributed_uj, 1234667);
    assert_int_equal(snapshot->zones[PACKAGE_0].measured_uj, 1234667);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void check_policy(enum static_policy policy, uint64_t vm0, uint64_t vm1, uint64_t vm2)
{
    const uint64_t expected[3] = {vm0, vm1, vm2};
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, policy);
    host.static_powers[PACKAGE_0].power_uw = 12000000;
    host.usage_vms[0].amount.sockets[0].cpu_ns = SECOND(1);
    host.usage_vms[1].amount.sockets[0].cpu_ns = SECOND(3);
    set_energy(&host, PACKAGE_0, 20000000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->zones[PACKAGE_0].static_uj, 12000000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(snapshot->vms[i].static_uj[PACKAGE_0], expected[i]);
        assert_int_equal(snapshot->vms[i].tree[TREE_PACKAGE].to_uj,
                         snapshot->vms[i].dynamic_uj[PACKAGE_0] + expected[i]);
    }
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_static_policies(void **state)
{
    check_policy(STATIC_EXCLUDE, 0, 0, 0);
    check_policy(STATIC_EQUAL, 4000000, 4000000, 4000000);
    check_policy(STATIC_PROPORTIONAL, 3000000, 9000000, 0);
    check_policy(STATIC_VCPU, 2000000, 4000000, 6000000);
}

/* Parts of a microjoule are owed, not lost, and rows add up at every moment. */
static void test_fractions_over_time(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EQUAL);
    host.static_powers[PACKAGE_0].power_uw = 1;
    for (int i = 0; i < 3; i++)
        host.usage_vms[i].amount.sockets[0].cpu_ns = 1;
    for (int i = 0; i < 3000; i++) {
        set_energy(&host, PACKAGE_0, 2);
        record(&host);
        snapshot_free(take_snapshot(&host));
    }
    snapshot = take_snapshot(&host);
    for (int i = 0; i < 3; i++) {
        assert_in_range(snapshot->vms[i].dynamic_uj[PACKAGE_0], 999, 1000);
        assert_in_range(snapshot->vms[i].static_uj[PACKAGE_0], 999, 1000);
    }
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_ramps_never_step(void **state)
{
    const struct snapshot_vm *vm;
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.usage_vms[0].amount.sockets[0].cpu_ns = 1;
    set_energy(&host, PACKAGE_0, 1000);
    record(&host);
    snapshot = take_snapshot(&host);
    vm = &snapshot->vms[0];
    assert_int_equal(snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, host.time_ns), 0);
    assert_int_equal(snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, host.time_ns + SECOND(1) / 4),
                     250);
    snapshot_free(snapshot);

    /* The next tick comes early: its ramp begins where the last one had come to. */
    record(&host);
    host.time_ns -= SECOND(1) / 4;
    snapshot = take_snapshot(&host);
    vm = &snapshot->vms[0];
    assert_int_equal(snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, host.time_ns), 750);
    assert_int_equal(vm->tree[TREE_PACKAGE].to_uj, 2000);
    snapshot_free(snapshot);

    /* A snapshot without a new interval leaves the ramp alone. */
    host.time_ns += SECOND(1) / 2;
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].tree[TREE_PACKAGE].from_uj, 750);
    assert_int_equal(snapshot_energy_uj(snapshot, &snapshot->vms[0], TREE_PACKAGE, host.time_ns),
                     1375);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static uint32_t forgotten;

static void forget(uint32_t id, void *userdata)
{
    forgotten = id;
}

static void test_ended_vms(void **state)
{
    struct snapshot *snapshot;
    struct host host;
    uint32_t id;

    host_init(&host, STATIC_EXCLUDE);
    for (int i = 0; i < 3; i++)
        host.usage_vms[i].amount.sockets[0].cpu_ns = 1;
    set_energy(&host, PACKAGE_0, 1000);
    record(&host);
    /* The last VM is gone from the table; its last slice still counts. */
    host.table.n = 2;
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->n_vms, 3);
    assert_false(snapshot->vms[2].running);
    assert_false(snapshot->vms[2].has_tree);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PACKAGE_0], 666);
    assert_string_equal(snapshot->vms[2].name, "vm2");
    id = snapshot->vms[2].id;
    snapshot_free(snapshot);

    host.usage.n_vms = 2;
    ledger_expire(host.ledger, host.time_ns + LEDGER_KEEP_NS - SECOND(2), forget, NULL);
    assert_int_equal(forgotten, 0);
    ledger_expire(host.ledger, host.time_ns + LEDGER_KEEP_NS, forget, NULL);
    assert_int_equal(forgotten, id);
    snapshot = take_snapshot(&host); /* checks the sum */
    assert_int_equal(snapshot->n_vms, 3);
    assert_string_equal(snapshot->vms[0].name, "former");
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_0], 666);
    /* All but the two living VMs' fractions, below 1 uJ each, is somebody's. */
    assert_in_range(snapshot->zones[PACKAGE_0].measured_uj, 1998, 2000);
    snapshot_free(snapshot);

    /* Its UUID returns later and starts anew, under a new id. */
    host.table.n = 3;
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->n_vms, 4);
    assert_int_equal(snapshot->vms[3].dynamic_uj[PACKAGE_0], 0);
    assert_true(snapshot->vms[3].id > id);
    assert_ptr_equal(snapshot_find_id(snapshot, snapshot->vms[3].id), &snapshot->vms[3]);
    snapshot_free(snapshot);
    host_deinit(&host);
}

static void test_zones_stay_while_a_vm_runs(void **state)
{
    struct zone_set grown = zones;
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    host.vms[1].running = false;
    host.vms[1].defined = true;
    record(&host);
    snapshot_free(take_snapshot(&host));
    grown.zones[grown.n++] = (struct zone){.name = "core", .kind = ZONE_CORE};
    assert_int_equal(ledger_snapshot(host.ledger, &grown, &host.sample, host.time_ns, &snapshot),
                     0);
    assert_string_equal(snapshot->model, "cputime");
    assert_false(snapshot->vms[0].tree_zones & 1u << TREE_CORE);
    assert_true(snapshot->vms[1].tree_zones & 1u << TREE_CORE);
    assert_true(snapshot->vms[1].has_tree);
    snapshot_free(snapshot);
    host_deinit(&host);
}

/* The platform goes by what the packages and memory gave everybody, not by a weight of its own. */
static void test_platform_follows_its_parts(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    ledger_set_platform(host.ledger, PSYS, 0);
    host.static_powers[PSYS].power_uw = 40000000;
    host.usage_vms[0].amount.sockets[0].cpu_ns = SECOND(1);
    host.usage_vms[1].amount.sockets[1].cpu_ns = SECOND(1);
    host.usage_vms[2].amount.io_bytes = 1000000;
    set_energy(&host, PACKAGE_0, 30000000);
    set_energy(&host, PACKAGE_1, 10000000);
    set_energy(&host, PSYS, 100000000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->zones[PSYS].static_uj, 40000000);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PSYS], 45000000);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PSYS], 15000000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PSYS], 0);
    snapshot_free(snapshot);
    /* A million bytes at 20 uJ each count 20 J beside the packages' 40. */
    ledger_set_platform(host.ledger, PSYS, 20000000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PSYS], 45000000 + 30000000);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PSYS], 15000000 + 10000000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PSYS], 20000000);
    snapshot_free(snapshot);
    host_deinit(&host);
}

/* The platform is entered after its parts, whichever slot it has; without them it is nobody's. */
static void test_platform_in_the_first_slot(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_EXCLUDE);
    ledger_set_platform(host.ledger, PACKAGE_0, 0);
    host.usage_vms[0].amount.sockets[0].cpu_ns = SECOND(1);
    host.usage_vms[1].amount.sockets[1].cpu_ns = SECOND(1);
    set_energy(&host, PACKAGE_0, 100000000);
    set_energy(&host, PACKAGE_1, 10000000);
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_0], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PACKAGE_0], 100000000);
    snapshot_free(snapshot);
    host.sample.zones[PACKAGE_1].valid = false;
    record(&host);
    snapshot = take_snapshot(&host);
    assert_int_equal(snapshot->zones[PACKAGE_0].unattributed_uj, 100000000);
    snapshot_free(snapshot);
    host_deinit(&host);
}

/* Uneven energies for a long time: whole microjoules, nothing lost (take_snapshot() sums up). */
static void test_platform_is_conserved(void **state)
{
    struct snapshot *snapshot;
    struct host host;

    host_init(&host, STATIC_PROPORTIONAL);
    ledger_set_platform(host.ledger, PSYS, 333);
    host.static_powers[PSYS].power_uw = 17777777;
    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned vm = 0; vm < 3; vm++) {
            host.usage_vms[vm].amount.sockets[0].cpu_ns = SECOND(1) / (vm + 3) + i * 7919;
            host.usage_vms[vm].amount.io_bytes = i * 104729 * vm;
        }
        set_energy(&host, PACKAGE_0, 31000003 + i * 97);
        set_energy(&host, PSYS, 99999989 + i * 131);
        record(&host);
    }
    snapshot = take_snapshot(&host);
    assert_true(snapshot->zones[PSYS].measured_uj > UINT64_C(99999989) * 1000);
    snapshot_free(snapshot);
    host_deinit(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepared_has_tree),
        cmocka_unit_test(test_sockets_are_kept_apart),
        cmocka_unit_test(test_dram_goes_by_memory),
        cmocka_unit_test(test_dram_of_a_node_goes_to_who_lives_there),
        cmocka_unit_test(test_no_usage_is_unattributed),
        cmocka_unit_test(test_static_policies),
        cmocka_unit_test(test_fractions_over_time),
        cmocka_unit_test(test_ramps_never_step),
        cmocka_unit_test(test_ended_vms),
        cmocka_unit_test(test_zones_stay_while_a_vm_runs),
        cmocka_unit_test(test_platform_follows_its_parts),
        cmocka_unit_test(test_platform_in_the_first_slot),
        cmocka_unit_test(test_platform_is_conserved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
