/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "../lib/machine.h"
#include "conservation.h"
#include "ledger/ledger_migrate.h"
#include "ledger/ledger_reserve.h"
#include "ledger/snapshot.h"

#define JOULES(n) (UINT64_C(n) * 1000000)
#define VM 1 /* the one that comes and goes */

static const struct ledger_stamp stamp = {.sequence = 1, .identity = {{1}, {2}}};

static void start(struct machine *machine)
{
    machine_start(machine, 3, "rapl", STATIC_EXCLUDE);
}

static void run(struct machine *machine, unsigned ticks)
{
    for (unsigned i = 0; i < ticks; i++)
        machine_run_tick(machine);
}

/* The VM, as it is shown at the end of the ramps; the host's rows add up. */
static struct snapshot_vm look(struct machine *machine)
{
    struct snapshot *snapshot = machine_snapshot(machine);
    struct snapshot_vm vm;

    assert_conserved(snapshot);
    vm = *snapshot_find_uuid(snapshot, machine->vms.vms[VM].uuid);
    snapshot_free(snapshot);
    return vm;
}

static uint64_t shown_uj(struct machine *machine)
{
    return look(machine).tree[TREE_PACKAGE].to_uj;
}

/* What this host measured of the VM, in its packages. */
static uint64_t used_here_uj(struct machine *machine)
{
    struct snapshot_vm vm = look(machine);

    return vm.dynamic_uj[0] + vm.dynamic_uj[2];
}

static void set_running(struct machine *machine, bool running)
{
    machine->vms.vms[VM].running = running;
    machine_update_vms(machine);
}

/* The VM begins another run with this much in its package. */
static void arrive(struct machine *machine, bool own, uint64_t total_uj, uint64_t bound_uj)
{
    struct vm *vm = &machine->vms.vms[VM];

    vm->start_number++;
    vm->arrival = (struct vm_arrival){.present = true, .own = own};
    vm->arrival.energy.total_uj[ZONE_PACKAGE] = total_uj;
    vm->arrival.energy.bound_uj[ZONE_PACKAGE] = bound_uj;
    set_running(machine, true);
}

static void restart(struct machine *machine)
{
    struct buffer buffer = {0};
    uint64_t time_ns = machine->time_ns;
    struct vm vm = machine->vms.vms[VM];
    struct ledger_image image;

    assert_int_equal(ledger_save(machine->ledger, &machine->sampler, &stamp, &buffer), 0);
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), 0);
    machine_deinit(machine);
    start(machine);
    machine->time_ns = time_ns;
    machine->vms.vms[VM] = vm;
    assert_int_equal(ledger_restore(machine->ledger, &image, machine->time_ns), 0);
    buffer_deinit(&buffer);
}

/* Stands at the bound until the total has passed it; then shows the total, to the microjoule. A
 * restart in the middle changes nothing, and what it brought is no energy of this host. */
static void test_arrival(void **state)
{
    struct machine machine;
    uint64_t total, before = 0;
    unsigned standing = 0;

    start(&machine);
    run(&machine, 1);
    arrive(&machine, false, JOULES(5000), JOULES(5200));
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), JOULES(5200));
    for (int i = 0; i < 40; i++) {
        run(&machine, 1);
        if (i % 3 == 1)
            restart(&machine);
        total = JOULES(5000) + used_here_uj(&machine);
        assert_int_equal(shown_uj(&machine), total > JOULES(5200) ? total : JOULES(5200));
        assert_true(shown_uj(&machine) >= before);
        before = shown_uj(&machine);
        standing += total < JOULES(5200);
    }
    assert_in_range(standing, 2, 38);
    machine_deinit(&machine);
}

/* A guest's zone that the host lacks stays, and goes on where it was. */
static void test_zone_of_the_other_host(void **state)
{
    struct machine machine;
    struct snapshot_vm vm;

    start(&machine);
    machine.vms.vms[VM].arrival.energy.total_uj[ZONE_CORE] = 7;
    machine.vms.vms[VM].arrival.energy.bound_uj[ZONE_CORE] = 9;
    machine.vms.vms[VM].arrival.present = true;
    machine.vms.vms[VM].start_number = 1;
    run(&machine, 2);
    vm = look(&machine);
    assert_int_equal(vm.tree_zones, 1u << TREE_PACKAGE | 1u << TREE_CORE | 1u << TREE_DRAM);
    assert_int_equal(vm.tree[TREE_CORE].to_uj, 9);
    assert_true(vm.tree[TREE_PACKAGE].to_uj > 0);
    machine_deinit(&machine);
}

static void assert_listed(struct machine *machine, size_t expected)
{
    struct vm_departure *departures;
    size_t n;

    assert_int_equal(ledger_list_departures(machine->ledger, machine->time_ns, &departures, &n), 0);
    assert_int_equal(n, expected);
    free(departures);
}

/* It adds what it used since it left, also while QEMU was still receiving it. */
static void test_return(void **state)
{
    struct machine machine;
    uint64_t left;

    start(&machine);
    machine.vms.vms[VM].start_number = 6;
    run(&machine, 10);
    assert_listed(&machine, 1);
    left = used_here_uj(&machine);
    machine.vms.vms[VM].start_number = 0;
    set_running(&machine, false);
    run(&machine, 1); /* other VMs' */
    set_running(&machine, true);
    left = used_here_uj(&machine);
    run(&machine, 2);
    assert_listed(&machine, 0); /* not to be written before it was read */
    arrive(&machine, false, left + JOULES(300), left + JOULES(301));
    assert_true(used_here_uj(&machine) > left + JOULES(1));
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), used_here_uj(&machine) + JOULES(300));
    /* Once: what is read again in the same run is what was written here. */
    machine.vms.vms[VM].arrival.energy.total_uj[ZONE_PACKAGE] += JOULES(1000);
    machine.vms.vms[VM].arrival.energy.bound_uj[ZONE_PACKAGE] += JOULES(1000);
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), used_here_uj(&machine) + JOULES(300));
    machine_deinit(&machine);
}

/* Saved and restored here, an old save image, a daemon that was restarted: nothing is added. */
static void test_ledger_knows_more(void **state)
{
    struct machine machine;
    uint64_t used;

    start(&machine);
    run(&machine, 20);
    used = used_here_uj(&machine);
    set_running(&machine, false);
    arrive(&machine, true, used, used + JOULES(100)); /* it knows what it has shown */
    assert_int_equal(shown_uj(&machine), used);
    arrive(&machine, true, used / 2, used + JOULES(50));
    arrive(&machine, false, used / 2, used / 2 + 1);
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), used_here_uj(&machine));
    /* Another host showed more, though it knew no more: the guest has seen that. */
    used = used_here_uj(&machine);
    arrive(&machine, false, used / 2, used + JOULES(100));
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), used + JOULES(100));
    run(&machine, 60);
    assert_int_equal(shown_uj(&machine), used_here_uj(&machine));
    machine_deinit(&machine);
}

/* The state was lost: what this host wrote itself counts in full. */
static void test_own_after_loss(void **state)
{
    struct machine machine;

    start(&machine);
    run(&machine, 1);
    arrive(&machine, true, JOULES(900), JOULES(1000));
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), JOULES(1000));
    machine_deinit(&machine);
}

/* Each below the parser's limit, together beyond what an image may hold. */
static void test_more_than_there_can_be(void **state)
{
    struct machine machine;
    uint64_t before = 0, most = UINT64_C(1) << 60;

    start(&machine);
    for (unsigned i = 1; i < 8; i++) {
        arrive(&machine, false, i * most, i * most);
        set_running(&machine, false);
        assert_true(shown_uj(&machine) >= before);
        before = shown_uj(&machine);
        restart(&machine); /* a good image */
    }
    run(&machine, 5);
    assert_true(shown_uj(&machine) >= before);
    machine_deinit(&machine);
}

/* The published counter of both hosts wraps at the same value: the reader sees one wrap. */
static void test_wrap(void **state)
{
    const uint64_t range = TREE_MAX_ENERGY_UJ + 1, last = 3 * range - JOULES(10);
    struct machine machine;
    uint64_t shown;

    start(&machine);
    arrive(&machine, false, last - JOULES(10), last + JOULES(30));
    run(&machine, 1);
    shown = shown_uj(&machine);
    assert_int_equal(TREE_MAX_ENERGY_UJ - last % range + shown % range + 1, shown - last);
    machine_deinit(&machine);
}

/* No more than the ceiling, also in the ramp; when it goes, all that was used. */
static void test_ceiling(void **state)
{
    struct machine machine;
    struct vm_departure *departures;
    uint64_t ceiling, now;
    size_t n;

    start(&machine);
    machine.vms.vms[VM].start_number = 1; /* it brought nothing */
    run(&machine, 2);
    for (int i = 0; i < 2; i++) {
        now = machine.time_ns;
        assert_int_equal(ledger_list_departures(machine.ledger, now, &departures, &n), 0);
        assert_int_equal(n, 1); /* of those that libvirt knows */
        assert_memory_equal(departures[0].uuid, machine.vms.vms[VM].uuid, sizeof(uuid_t));
        assert_int_equal(departures[0].ceiling_uj[ZONE_PACKAGE], UINT64_MAX);
        if (i == 0) {
            /* Nothing is known of its pace yet. */
            assert_int_equal(departures[0].energy.bound_uj[ZONE_PACKAGE],
                             shown_uj(&machine) + JOULES(10));
            free(departures);
            run(&machine, 1);
        }
    }
    assert_int_equal(departures[0].energy.total_uj[ZONE_PACKAGE], used_here_uj(&machine));
    assert_int_equal(departures[0].energy.bound_uj[ZONE_CORE], 0); /* there is none */
    ceiling = departures[0].energy.bound_uj[ZONE_PACKAGE];
    assert_true(ceiling >= shown_uj(&machine) + JOULES(10));
    assert_true(departures[0].need_uj[ZONE_PACKAGE] <= ceiling);
    ceiling = departures[0].ceiling_uj[ZONE_PACKAGE] = shown_uj(&machine) + JOULES(20);
    ledger_set_ceilings(machine.ledger, departures, n);
    run(&machine, 30);
    assert_int_equal(shown_uj(&machine), ceiling);
    run(&machine, 1);
    assert_int_equal(look(&machine).tree[TREE_PACKAGE].from_uj, ceiling);
    departures[0].ceiling_uj[ZONE_PACKAGE] = UINT64_MAX;
    ledger_set_ceilings(machine.ledger, departures, n);
    run(&machine, 1);
    assert_int_equal(shown_uj(&machine), used_here_uj(&machine));
    free(departures);
    machine_deinit(&machine);
}

/* What arrives in one interval is no pace at which it goes on. */
static void test_checkpoint_has_no_reserve_of_it(void **state)
{
    struct buffer before = {0}, after = {0}, checkpoint = {0};
    struct ledger_image images[2], kept;
    struct machine machine;
    struct ledger_stamp now = stamp;

    start(&machine);
    run(&machine, 1);
    arrive(&machine, false, JOULES(1), JOULES(1));
    assert_int_equal(ledger_save(machine.ledger, &machine.sampler, &now, &before), 0);
    assert_int_equal(ledger_image_parse(before.bytes, before.size, &images[0]), 0);
    set_running(&machine, false);
    arrive(&machine, false, JOULES(5000), JOULES(5000));
    now.time_ns += NSEC_PER_SEC;
    assert_int_equal(ledger_save(machine.ledger, &machine.sampler, &now, &after), 0);
    assert_int_equal(ledger_image_parse(after.bytes, after.size, &images[1]), 0);
    assert_int_equal(ledger_reserve_add(&images[1], &images[0], &images[0], &checkpoint), 0);
    assert_int_equal(ledger_image_parse(checkpoint.bytes, checkpoint.size, &kept), 0);
    for (size_t a = 0; a < kept.head->n_totals; a++)
        if (strcmp(kept.totals[a].source, LEDGER_SOURCE_ELSEWHERE) == 0)
            assert_int_equal(kept.totals[a].measured_uj, images[1].totals[a].measured_uj);
    assert_int_equal(kept.head->n_totals, 5);
    buffer_deinit(&before);
    buffer_deinit(&after);
    buffer_deinit(&checkpoint);
    machine_deinit(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrival),
        cmocka_unit_test(test_zone_of_the_other_host),
        cmocka_unit_test(test_return),
        cmocka_unit_test(test_ledger_knows_more),
        cmocka_unit_test(test_own_after_loss),
        cmocka_unit_test(test_more_than_there_can_be),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_checkpoint_has_no_reserve_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
