/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "../lib/machine.h"
#include "conservation.h"

#define SECOND(n) ((uint64_t)(n)*NSEC_PER_SEC)

static void start(struct machine *machine, enum static_policy policy)
{
    machine_init(machine, 3);
    machine_open_ledger(machine, (struct ledger_config){.static_policy = policy});
}

static void record(struct machine *machine)
{
    machine_advance(machine);
    machine_record(machine);
}

static struct snapshot *take_snapshot(struct machine *machine)
{
    struct snapshot *snapshot = machine_snapshot(machine);

    assert_conserved(snapshot);
    return snapshot;
}

/* A tree before the VM is seen, through a refresh that still lists its former life. */
static void test_prepared_has_tree(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine.vms.n = 2;
    record(&machine);
    assert_int_equal(ledger_prepare_vm(machine.ledger, machine.vms.vms[1].uuid, machine.time_ns),
                     0);
    assert_int_equal(ledger_prepare_vm(machine.ledger, machine.vms.vms[2].uuid, machine.time_ns),
                     0);
    record(&machine);
    machine.vms.n = 1;
    machine.time_ns += LEDGER_PREPARED_NS - SECOND(3);
    record(&machine);
    ledger_expire(machine.ledger, machine.time_ns, NULL, NULL);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->n_vms, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(snapshot->vms[i].has_tree);
    assert_false(snapshot->vms[2].running);
    assert_string_equal(snapshot->vms[2].name, "00000000-0000-0000-0000-000000000003");
    snapshot_free(snapshot);
    record(&machine);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_true(snapshot->vms[0].has_tree);
    assert_false(snapshot->vms[1].has_tree);
    assert_false(snapshot->vms[2].has_tree);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

static void test_sockets_are_kept_apart(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine_amount(&machine, 0)->sockets[0].cpu_ns = SECOND(1);
    machine_amount(&machine, 1)->sockets[1].cpu_ns = SECOND(1);
    machine.usage.host.sockets[0].cpu_ns = SECOND(3);
    machine_measure(&machine, PACKAGE_0, 40000000);
    machine_measure(&machine, PACKAGE_1, 10000000);
    record(&machine);
    snapshot = take_snapshot(&machine);
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
    machine_deinit(&machine);
}

static void test_dram_goes_by_memory(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine_amount(&machine, 0)->sockets[0].memory_bytes = 1u << 30;
    machine_amount(&machine, 2)->sockets[0].memory_bytes = 2u << 30;
    machine.usage.host.sockets[0].memory_bytes = 1u << 30;
    machine_measure(&machine, DRAM_0, 4000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM_0], 1000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[DRAM_0], 2000);
    assert_int_equal(snapshot->zones[DRAM_0].host_uj, 1000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

/* A VM whose memory is all on the other node has nothing of this node's energy. */
static void test_dram_of_a_node_goes_to_who_lives_there(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine_amount(&machine, 0)->sockets[0].memory_bytes = 8u << 20;
    machine_amount(&machine, 1)->sockets[1].memory_bytes = 3u << 20;
    machine.usage.host.sockets[1].memory_bytes = 1u << 20;
    machine_measure(&machine, DRAM_0, 5000);
    machine_measure(&machine, DRAM_1, 4000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM_0], 5000);
    assert_int_equal(snapshot->vms[0].dynamic_uj[DRAM_1], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[DRAM_0], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[DRAM_1], 3000);
    assert_int_equal(snapshot->zones[DRAM_0].host_uj, 0);
    assert_int_equal(snapshot->zones[DRAM_1].host_uj, 1000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

static void test_no_usage_is_unattributed(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine_measure(&machine, PACKAGE_0, 1234567);
    record(&machine);
    machine.usage.host.sockets[0].cpu_ns = 1;
    machine_measure(&machine, PACKAGE_0, 100);
    machine.sample.zones[PACKAGE_0].gap = true;
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->zones[PACKAGE_0].unattributed_uj, 1234667);
    assert_int_equal(snapshot->zones[PACKAGE_0].measured_uj, 1234667);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

static void check_policy(enum static_policy policy, uint64_t vm0, uint64_t vm1, uint64_t vm2)
{
    const uint64_t expected[3] = {vm0, vm1, vm2};
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, policy);
    machine.static_powers[PACKAGE_0].power_uw = 12000000;
    machine_amount(&machine, 0)->sockets[0].cpu_ns = SECOND(1);
    machine_amount(&machine, 1)->sockets[0].cpu_ns = SECOND(3);
    machine_measure(&machine, PACKAGE_0, 20000000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->zones[PACKAGE_0].static_uj, 12000000);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(snapshot->vms[i].static_uj[PACKAGE_0], expected[i]);
        assert_int_equal(snapshot->vms[i].tree[TREE_PACKAGE].to_uj,
                         snapshot->vms[i].dynamic_uj[PACKAGE_0] + expected[i]);
    }
    snapshot_free(snapshot);
    machine_deinit(&machine);
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
    struct machine machine;

    start(&machine, STATIC_EQUAL);
    machine.static_powers[PACKAGE_0].power_uw = 1;
    for (int i = 0; i < 3; i++)
        machine_amount(&machine, i)->sockets[0].cpu_ns = 1;
    for (int i = 0; i < 3000; i++) {
        machine_measure(&machine, PACKAGE_0, 2);
        record(&machine);
        snapshot_free(take_snapshot(&machine));
    }
    snapshot = take_snapshot(&machine);
    for (int i = 0; i < 3; i++) {
        assert_in_range(snapshot->vms[i].dynamic_uj[PACKAGE_0], 999, 1000);
        assert_in_range(snapshot->vms[i].static_uj[PACKAGE_0], 999, 1000);
    }
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

static void test_ramps_never_step(void **state)
{
    const struct snapshot_vm *vm;
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine_amount(&machine, 0)->sockets[0].cpu_ns = 1;
    machine_measure(&machine, PACKAGE_0, 1000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    vm = &snapshot->vms[0];
    assert_int_equal(snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, machine.time_ns), 0);
    assert_int_equal(
        snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, machine.time_ns + SECOND(1) / 4), 250);
    snapshot_free(snapshot);

    /* The next tick comes early: its ramp begins where the last one had come to. */
    record(&machine);
    machine.time_ns -= SECOND(1) / 4;
    snapshot = take_snapshot(&machine);
    vm = &snapshot->vms[0];
    assert_int_equal(snapshot_energy_uj(snapshot, vm, TREE_PACKAGE, machine.time_ns), 750);
    assert_int_equal(vm->tree[TREE_PACKAGE].to_uj, 2000);
    snapshot_free(snapshot);

    /* A snapshot without a new interval leaves the ramp alone. */
    machine.time_ns += SECOND(1) / 2;
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->vms[0].tree[TREE_PACKAGE].from_uj, 750);
    assert_int_equal(snapshot_energy_uj(snapshot, &snapshot->vms[0], TREE_PACKAGE, machine.time_ns),
                     1375);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

#define READS 20000

/*
 * The power that a reader gets from many reads of one ramp, as good as can be: the line through
 * the moments at which the value steps. In microjoules per interval.
 */
static double fit_slope(const struct snapshot *snapshot, uint64_t quantum_uj)
{
    double sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0, n = 0;
    uint64_t last = UINT64_MAX;

    for (uint64_t i = 0; i <= READS; i++) {
        uint64_t energy_uj = snapshot_energy_uj(snapshot, &snapshot->vms[0], TREE_PACKAGE,
                                                snapshot->ramp_start_ns + SECOND(1) / READS * i);
        double x = (double)i / READS, y;

        energy_uj -= energy_uj % quantum_uj;
        y = (double)energy_uj;
        if (last != UINT64_MAX && energy_uj != last) {
            sum_x += x;
            sum_y += y;
            sum_xx += x * x;
            sum_xy += x * y;
            n++;
        }
        last = energy_uj;
    }
    return (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);
}

static double slope_of(uint64_t energy_uj, uint64_t quantum_uj)
{
    struct snapshot *snapshot;
    struct machine machine;
    double slope;

    machine_init(&machine, 1);
    machine_open_ledger(&machine, (struct ledger_config){.quantum_uj = quantum_uj});
    machine_amount(&machine, 0)->sockets[0].cpu_ns = 1;
    machine_measure(&machine, PACKAGE_0, energy_uj);
    record(&machine);
    snapshot = take_snapshot(&machine);
    slope = fit_slope(snapshot, 1000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
    return slope;
}

/* Energies that differ by less than the quantum cannot be told apart, however often one reads. */
static void test_resolution(void **state)
{
    double of_quantum = slope_of(50000, 1000);

    assert_float_equal(of_quantum, 50000, 1);
    for (uint64_t more = 1; more < 1000; more += 37)
        assert_true(slope_of(50000 + more, 1000) == of_quantum);
    assert_float_equal(slope_of(51000, 1000), 51000, 1);
    /* The reader is good: without it, it reads what is below the quantum. */
    assert_float_equal(slope_of(50500, 1), 50500, 20);
}

/* What is cut off one ramp is in a later one. */
static void test_quantum_loses_nothing(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    machine_init(&machine, 1);
    machine_open_ledger(&machine, (struct ledger_config){.quantum_uj = 1000});
    for (uint64_t i = 1; i <= 1000; i++) {
        const struct ramp *ramp;

        machine_amount(&machine, 0)->sockets[0].cpu_ns = 1;
        machine_measure(&machine, PACKAGE_0, 777);
        record(&machine);
        snapshot = take_snapshot(&machine);
        ramp = &snapshot->vms[0].tree[TREE_PACKAGE];
        assert_int_equal(ramp->to_uj, i * 777 / 1000 * 1000);
        assert_int_equal(ramp->from_uj % 1000, 0);
        assert_true(ramp->to_uj <= snapshot->vms[0].dynamic_uj[PACKAGE_0]);
        snapshot_free(snapshot);
    }
    machine_deinit(&machine);
}

static uint32_t forgotten;

static void forget(uint32_t id, void *userdata)
{
    forgotten = id;
}

static void test_ended_vms(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;
    uint32_t id;

    start(&machine, STATIC_EXCLUDE);
    for (int i = 0; i < 3; i++)
        machine_amount(&machine, i)->sockets[0].cpu_ns = 1;
    machine_measure(&machine, PACKAGE_0, 1000);
    record(&machine);
    /* The last VM is gone from the table; its last slice still counts. */
    machine.vms.n = 2;
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->n_vms, 3);
    assert_false(snapshot->vms[2].running);
    assert_false(snapshot->vms[2].has_tree);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PACKAGE_0], 666);
    assert_string_equal(snapshot->vms[2].name, "vm2");
    id = snapshot->vms[2].id;
    snapshot_free(snapshot);

    machine.usage.n_vms = 2;
    ledger_expire(machine.ledger, machine.time_ns + LEDGER_KEEP_NS - SECOND(2), forget, NULL);
    assert_int_equal(forgotten, 0);
    ledger_expire(machine.ledger, machine.time_ns + LEDGER_KEEP_NS, forget, NULL);
    assert_int_equal(forgotten, id);
    snapshot = take_snapshot(&machine); /* checks the sum */
    assert_int_equal(snapshot->n_vms, 3);
    assert_string_equal(snapshot->vms[0].name, "former");
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_0], 666);
    /* All but the two living VMs' fractions, below 1 uJ each, is somebody's. */
    assert_in_range(snapshot->zones[PACKAGE_0].measured_uj, 1998, 2000);
    snapshot_free(snapshot);

    /* Its UUID returns later and starts anew, under a new id. */
    machine.vms.n = 3;
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->n_vms, 4);
    assert_int_equal(snapshot->vms[3].dynamic_uj[PACKAGE_0], 0);
    assert_true(snapshot->vms[3].id > id);
    assert_ptr_equal(snapshot_find_id(snapshot, snapshot->vms[3].id), &snapshot->vms[3]);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

static void test_zones_stay_while_a_vm_runs(void **state)
{
    struct zone_set grown = machine_zones;
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    machine.vms.vms[1].running = false;
    machine.vms.vms[1].defined = true;
    record(&machine);
    snapshot_free(take_snapshot(&machine));
    grown.zones[grown.n++] = (struct zone){.name = "core", .kind = ZONE_CORE};
    assert_int_equal(
        ledger_snapshot(machine.ledger, &grown, &machine.sample, machine.time_ns, &snapshot), 0);
    assert_string_equal(snapshot->model, "cputime");
    assert_false(snapshot->vms[0].tree_zones & 1u << TREE_CORE);
    assert_true(snapshot->vms[1].tree_zones & 1u << TREE_CORE);
    assert_true(snapshot->vms[1].has_tree);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

/* The platform goes by what the packages and memory gave everybody, not by a weight of its own. */
static void test_platform_follows_its_parts(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    ledger_set_platform(machine.ledger, PSYS, 0);
    machine.static_powers[PSYS].power_uw = 40000000;
    machine_amount(&machine, 0)->sockets[0].cpu_ns = SECOND(1);
    machine_amount(&machine, 1)->sockets[1].cpu_ns = SECOND(1);
    machine_amount(&machine, 2)->io_bytes = 1000000;
    machine_measure(&machine, PACKAGE_0, 30000000);
    machine_measure(&machine, PACKAGE_1, 10000000);
    machine_measure(&machine, PSYS, 100000000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->zones[PSYS].static_uj, 40000000);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PSYS], 45000000);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PSYS], 15000000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PSYS], 0);
    snapshot_free(snapshot);
    /* A million bytes at 20 uJ each count 20 J beside the packages' 40. */
    ledger_set_platform(machine.ledger, PSYS, 20000000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PSYS], 45000000 + 30000000);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PSYS], 15000000 + 10000000);
    assert_int_equal(snapshot->vms[2].dynamic_uj[PSYS], 20000000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

/* The platform is entered after its parts, whichever slot it has; without them it is nobody's. */
static void test_platform_in_the_first_slot(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_EXCLUDE);
    ledger_set_platform(machine.ledger, PACKAGE_0, 0);
    machine_amount(&machine, 0)->sockets[0].cpu_ns = SECOND(1);
    machine_amount(&machine, 1)->sockets[1].cpu_ns = SECOND(1);
    machine_measure(&machine, PACKAGE_0, 100000000);
    machine_measure(&machine, PACKAGE_1, 10000000);
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->vms[0].dynamic_uj[PACKAGE_0], 0);
    assert_int_equal(snapshot->vms[1].dynamic_uj[PACKAGE_0], 100000000);
    snapshot_free(snapshot);
    machine.sample.zones[PACKAGE_1].valid = false;
    record(&machine);
    snapshot = take_snapshot(&machine);
    assert_int_equal(snapshot->zones[PACKAGE_0].unattributed_uj, 100000000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
}

/* Uneven energies for a long time: whole microjoules, nothing lost (take_snapshot() sums up). */
static void test_platform_is_conserved(void **state)
{
    struct snapshot *snapshot;
    struct machine machine;

    start(&machine, STATIC_PROPORTIONAL);
    ledger_set_platform(machine.ledger, PSYS, 333);
    machine.static_powers[PSYS].power_uw = 17777777;
    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned vm = 0; vm < 3; vm++) {
            machine_amount(&machine, vm)->sockets[0].cpu_ns = SECOND(1) / (vm + 3) + i * 7919;
            machine_amount(&machine, vm)->io_bytes = i * 104729 * vm;
        }
        machine_measure(&machine, PACKAGE_0, 31000003 + i * 97);
        machine_measure(&machine, PSYS, 99999989 + i * 131);
        record(&machine);
    }
    snapshot = take_snapshot(&machine);
    assert_true(snapshot->zones[PSYS].measured_uj > UINT64_C(99999989) * 1000);
    snapshot_free(snapshot);
    machine_deinit(&machine);
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
        cmocka_unit_test(test_resolution),
        cmocka_unit_test(test_quantum_loses_nothing),
        cmocka_unit_test(test_ended_vms),
        cmocka_unit_test(test_zones_stay_while_a_vm_runs),
        cmocka_unit_test(test_platform_follows_its_parts),
        cmocka_unit_test(test_platform_in_the_first_slot),
        cmocka_unit_test(test_platform_is_conserved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
