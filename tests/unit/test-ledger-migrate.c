/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include "../lib/ledger_fixture.h"
#include "ledger/ledger_migrate.h"
#include "ledger/ledger_reserve.h"
#include "ledger/snapshot.h"

#define JOULES(n) (UINT64_C(n) * 1000000)
#define VM 1 /* the one that comes and goes */

static const struct ledger_stamp stamp = {.sequence = 1, .identity = {{1}, {2}}};

static void start(struct ledger_fixture *fixture)
{
    assert_int_equal(ledger_fixture_init(fixture, 3, "rapl", STATIC_EXCLUDE), 0);
}

static void run(struct ledger_fixture *fixture, unsigned ticks)
{
    for (unsigned i = 0; i < ticks; i++)
        assert_int_equal(ledger_fixture_tick(fixture), 0);
}

/* The VM, as it is shown at the end of the ramps; the host's rows add up. */
static struct snapshot_vm look(struct ledger_fixture *fixture)
{
    struct snapshot *snapshot;
    struct snapshot_vm vm;

    assert_int_equal(ledger_snapshot(fixture->ledger, &fixture->zones, &fixture->sample,
                                     ledger_fixture_time(fixture), &snapshot),
                     0);
    for (size_t slot = 0; slot < snapshot->n_zones; slot++) {
        uint64_t sum = snapshot->zones[slot].host_uj + snapshot->zones[slot].static_uj +
                       snapshot->zones[slot].unattributed_uj;

        for (size_t i = 0; i < snapshot->n_vms; i++)
            sum += snapshot->vms[i].dynamic_uj[slot];
        assert_int_equal(sum, snapshot->zones[slot].measured_uj);
    }
    vm = *snapshot_find_uuid(snapshot, fixture->vms.vms[VM].uuid);
    snapshot_free(snapshot);
    return vm;
}

static uint64_t shown_uj(struct ledger_fixture *fixture)
{
    return look(fixture).tree[TREE_PACKAGE].to_uj;
}

/* What this host measured of the VM, in its packages. */
static uint64_t used_here_uj(struct ledger_fixture *fixture)
{
    struct snapshot_vm vm = look(fixture);

    return vm.dynamic_uj[0] + vm.dynamic_uj[2];
}

static void set_running(struct ledger_fixture *fixture, bool running)
{
    fixture->vms.vms[VM].running = running;
    assert_int_equal(
        ledger_update_vms(fixture->ledger, &fixture->vms, ledger_fixture_time(fixture)), 0);
}

/* The VM begins another run with this much in its package. */
static void arrive(struct ledger_fixture *fixture, bool own, uint64_t total_uj, uint64_t bound_uj)
{
    struct vm *vm = &fixture->vms.vms[VM];

    vm->start_number++;
    vm->arrival = (struct vm_arrival){.present = true, .own = own};
    vm->arrival.energy.total_uj[ZONE_PACKAGE] = total_uj;
    vm->arrival.energy.bound_uj[ZONE_PACKAGE] = bound_uj;
    set_running(fixture, true);
}

static void restart(struct ledger_fixture *fixture)
{
    struct buffer buffer = {0};
    uint64_t tick = fixture->tick;
    struct vm vm = fixture->vms.vms[VM];
    struct ledger_image image;

    assert_int_equal(ledger_save(fixture->ledger, &fixture->sampler, &stamp, &buffer), 0);
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), 0);
    ledger_fixture_deinit(fixture);
    start(fixture);
    fixture->tick = tick;
    fixture->vms.vms[VM] = vm;
    assert_int_equal(ledger_restore(fixture->ledger, &image, ledger_fixture_time(fixture)), 0);
    buffer_deinit(&buffer);
}

/* Stands at the bound until the total has passed it; then shows the total, to the microjoule. A
 * restart in the middle changes nothing, and what it brought is no energy of this host. */
static void test_arrival(void **state)
{
    struct ledger_fixture fixture;
    uint64_t total, before = 0;
    unsigned standing = 0;

    start(&fixture);
    run(&fixture, 1);
    arrive(&fixture, false, JOULES(5000), JOULES(5200));
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), JOULES(5200));
    for (int i = 0; i < 40; i++) {
        run(&fixture, 1);
        if (i % 3 == 1)
            restart(&fixture);
        total = JOULES(5000) + used_here_uj(&fixture);
        assert_int_equal(shown_uj(&fixture), total > JOULES(5200) ? total : JOULES(5200));
        assert_true(shown_uj(&fixture) >= before);
        before = shown_uj(&fixture);
        standing += total < JOULES(5200);
    }
    assert_in_range(standing, 2, 38);
    ledger_fixture_deinit(&fixture);
}

/* A guest's zone that the host lacks stays, and goes on where it was. */
static void test_zone_of_the_other_host(void **state)
{
    struct ledger_fixture fixture;
    struct snapshot_vm vm;

    start(&fixture);
    fixture.vms.vms[VM].arrival.energy.total_uj[ZONE_CORE] = 7;
    fixture.vms.vms[VM].arrival.energy.bound_uj[ZONE_CORE] = 9;
    fixture.vms.vms[VM].arrival.present = true;
    fixture.vms.vms[VM].start_number = 1;
    run(&fixture, 2);
    vm = look(&fixture);
    assert_int_equal(vm.tree_zones, 1u << TREE_PACKAGE | 1u << TREE_CORE | 1u << TREE_DRAM);
    assert_int_equal(vm.tree[TREE_CORE].to_uj, 9);
    assert_true(vm.tree[TREE_PACKAGE].to_uj > 0);
    ledger_fixture_deinit(&fixture);
}

static void assert_listed(struct ledger_fixture *fixture, size_t expected)
{
    struct vm_departure *departures;
    size_t n;

    assert_int_equal(
        ledger_list_departures(fixture->ledger, ledger_fixture_time(fixture), &departures, &n), 0);
    assert_int_equal(n, expected);
    free(departures);
}

/* It adds what it used since it left, also while QEMU was still receiving it. */
static void test_return(void **state)
{
    struct ledger_fixture fixture;
    uint64_t left;

    start(&fixture);
    fixture.vms.vms[VM].start_number = 6;
    run(&fixture, 10);
    assert_listed(&fixture, 1);
    left = used_here_uj(&fixture);
    fixture.vms.vms[VM].start_number = 0;
    set_running(&fixture, false);
    run(&fixture, 1); /* other VMs' */
    set_running(&fixture, true);
    left = used_here_uj(&fixture);
    run(&fixture, 2);
    assert_listed(&fixture, 0); /* not to be written before it was read */
    arrive(&fixture, false, left + JOULES(300), left + JOULES(301));
    assert_true(used_here_uj(&fixture) > left + JOULES(1));
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), used_here_uj(&fixture) + JOULES(300));
    /* Once: what is read again in the same run is what was written here. */
    fixture.vms.vms[VM].arrival.energy.total_uj[ZONE_PACKAGE] += JOULES(1000);
    fixture.vms.vms[VM].arrival.energy.bound_uj[ZONE_PACKAGE] += JOULES(1000);
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), used_here_uj(&fixture) + JOULES(300));
    ledger_fixture_deinit(&fixture);
}

/* Saved and restored here, an old save image, a daemon that was restarted: nothing is added. */
static void test_ledger_knows_more(void **state)
{
    struct ledger_fixture fixture;
    uint64_t used;

    start(&fixture);
    run(&fixture, 20);
    used = used_here_uj(&fixture);
    set_running(&fixture, false);
    arrive(&fixture, true, used, used + JOULES(100)); /* it knows what it has shown */
    assert_int_equal(shown_uj(&fixture), used);
    arrive(&fixture, true, used / 2, used + JOULES(50));
    arrive(&fixture, false, used / 2, used / 2 + 1);
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), used_here_uj(&fixture));
    /* Another host showed more, though it knew no more: the guest has seen that. */
    used = used_here_uj(&fixture);
    arrive(&fixture, false, used / 2, used + JOULES(100));
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), used + JOULES(100));
    run(&fixture, 60);
    assert_int_equal(shown_uj(&fixture), used_here_uj(&fixture));
    ledger_fixture_deinit(&fixture);
}

/* The state was lost: what this host wrote itself counts in full. */
static void test_own_after_loss(void **state)
{
    struct ledger_fixture fixture;

    start(&fixture);
    run(&fixture, 1);
    arrive(&fixture, true, JOULES(900), JOULES(1000));
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), JOULES(1000));
    ledger_fixture_deinit(&fixture);
}

/* Each below the parser's limit, together beyond what an image may hold. */
static void test_more_than_there_can_be(void **state)
{
    struct ledger_fixture fixture;
    uint64_t before = 0, most = UINT64_C(1) << 60;

    start(&fixture);
    for (unsigned i = 1; i < 8; i++) {
        arrive(&fixture, false, i * most, i * most);
        set_running(&fixture, false);
        assert_true(shown_uj(&fixture) >= before);
        before = shown_uj(&fixture);
        restart(&fixture); /* a good image */
    }
    run(&fixture, 5);
    assert_true(shown_uj(&fixture) >= before);
    ledger_fixture_deinit(&fixture);
}

/* The published counter of both hosts wraps at the same value: the reader sees one wrap. */
static void test_wrap(void **state)
{
    const uint64_t range = TREE_MAX_ENERGY_UJ + 1, last = 3 * range - JOULES(10);
    struct ledger_fixture fixture;
    uint64_t shown;

    start(&fixture);
    arrive(&fixture, false, last - JOULES(10), last + JOULES(30));
    run(&fixture, 1);
    shown = shown_uj(&fixture);
    assert_int_equal(TREE_MAX_ENERGY_UJ - last % range + shown % range + 1, shown - last);
    ledger_fixture_deinit(&fixture);
}

/* No more than the ceiling, also in the ramp; when it goes, all that was used. */
static void test_ceiling(void **state)
{
    struct ledger_fixture fixture;
    struct vm_departure *departures;
    uint64_t ceiling, now;
    size_t n;

    start(&fixture);
    fixture.vms.vms[VM].start_number = 1; /* it brought nothing */
    run(&fixture, 2);
    for (int i = 0; i < 2; i++) {
        now = ledger_fixture_time(&fixture);
        assert_int_equal(ledger_list_departures(fixture.ledger, now, &departures, &n), 0);
        assert_int_equal(n, 1); /* of those that libvirt knows */
        assert_memory_equal(departures[0].uuid, fixture.vms.vms[VM].uuid, sizeof(uuid_t));
        assert_int_equal(departures[0].ceiling_uj[ZONE_PACKAGE], UINT64_MAX);
        if (i == 0) {
            /* Nothing is known of its pace yet. */
            assert_int_equal(departures[0].energy.bound_uj[ZONE_PACKAGE],
                             shown_uj(&fixture) + JOULES(10));
            free(departures);
            run(&fixture, 1);
        }
    }
    assert_int_equal(departures[0].energy.total_uj[ZONE_PACKAGE], used_here_uj(&fixture));
    assert_int_equal(departures[0].energy.bound_uj[ZONE_CORE], 0); /* there is none */
    ceiling = departures[0].energy.bound_uj[ZONE_PACKAGE];
    assert_true(ceiling >= shown_uj(&fixture) + JOULES(10));
    assert_true(departures[0].need_uj[ZONE_PACKAGE] <= ceiling);
    ceiling = departures[0].ceiling_uj[ZONE_PACKAGE] = shown_uj(&fixture) + JOULES(20);
    ledger_set_ceilings(fixture.ledger, departures, n);
    run(&fixture, 30);
    assert_int_equal(shown_uj(&fixture), ceiling);
    run(&fixture, 1);
    assert_int_equal(look(&fixture).tree[TREE_PACKAGE].from_uj, ceiling);
    departures[0].ceiling_uj[ZONE_PACKAGE] = UINT64_MAX;
    ledger_set_ceilings(fixture.ledger, departures, n);
    run(&fixture, 1);
    assert_int_equal(shown_uj(&fixture), used_here_uj(&fixture));
    free(departures);
    ledger_fixture_deinit(&fixture);
}

/* What arrives in one interval is no pace at which it goes on. */
static void test_checkpoint_has_no_reserve_of_it(void **state)
{
    struct buffer before = {0}, after = {0}, checkpoint = {0};
    struct ledger_image images[2], kept;
    struct ledger_fixture fixture;
    struct ledger_stamp now = stamp;

    start(&fixture);
    run(&fixture, 1);
    arrive(&fixture, false, JOULES(1), JOULES(1));
    assert_int_equal(ledger_save(fixture.ledger, &fixture.sampler, &now, &before), 0);
    assert_int_equal(ledger_image_parse(before.bytes, before.size, &images[0]), 0);
    set_running(&fixture, false);
    arrive(&fixture, false, JOULES(5000), JOULES(5000));
    now.time_ns += NSEC_PER_SEC;
    assert_int_equal(ledger_save(fixture.ledger, &fixture.sampler, &now, &after), 0);
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
    ledger_fixture_deinit(&fixture);
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
