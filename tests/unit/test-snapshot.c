/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <pthread.h>

#include "../lib/snapshot_fixture.h"
#include "ledger/snapshot.h"

#define VMS 100U
#define POSTS 20000U
#define READERS 4U

static void test_find(void **state)
{
    struct snapshot_vm vms[VMS], absent;
    struct snapshot *snapshot, *empty = fixture_snapshot(NULL, 0);

    /* Ids run against the UUIDs' order, with gaps. */
    for (unsigned i = 0; i < VMS; i++)
        fixture_vm(&vms[i], 3 * (VMS - i), 2 * i, "vm");
    fixture_vm(&absent, 1, 33, "absent");
    snapshot = fixture_snapshot(vms, VMS);

    for (unsigned i = 0; i < VMS; i++) {
        const struct snapshot_vm *vm = snapshot_find_uuid(snapshot, vms[i].uuid);

        assert_non_null(vm);
        assert_int_equal(vm->id, vms[i].id);
        assert_ptr_equal(snapshot_find_id(snapshot, vms[i].id), vm);
        assert_null(snapshot_find_id(snapshot, vms[i].id + 1));
    }
    assert_null(snapshot_find_uuid(snapshot, absent.uuid));
    assert_null(snapshot_find_id(snapshot, 0));
    assert_null(snapshot_find_id(snapshot, UINT32_MAX));
    assert_int_equal(snapshot_seek_id(snapshot, 0), 0);
    assert_int_equal(snapshot_seek_id(snapshot, 4), 1);
    assert_int_equal(snapshot_seek_id(snapshot, UINT64_MAX), VMS);

    assert_null(snapshot_find_uuid(empty, absent.uuid));
    assert_null(snapshot_find_id(empty, 1));
    snapshot_free(snapshot);
    snapshot_free(empty);
}

static void test_ramp(void **state)
{
    static const struct {
        struct ramp ramp;
        uint64_t start_ns, interval_ns, time_ns, energy_uj;
    } cases[] = {
        {{100, 200}, 1000, 100, 0, 100},
        {{100, 200}, 1000, 100, 1000, 100},
        {{100, 200}, 1000, 100, 1001, 101},
        {{100, 200}, 1000, 100, 1050, 150},
        {{100, 200}, 1000, 100, 1099, 199},
        {{100, 200}, 1000, 100, 1100, 200},
        {{100, 200}, 1000, 100, 9999, 200},
        {{7, 7}, 0, 100, 50, 7},
        {{100, 200}, 1000, 0, 1000, 100},
        {{100, 200}, 1000, 0, 1001, 200},
        {{0, 10}, 0, 3, 1, 3},
        {{0, 10}, 0, 3, 2, 6},
        /* The product does not fit 64 bits. */
        {{0, UINT64_MAX}, 0, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 1},
        {{1, UINT64_MAX}, 0, 60000000000, 30000000000, UINT64_C(1) << 63},
        {{0, UINT64_MAX}, UINT64_MAX - 10, 20, UINT64_MAX, UINT64_MAX / 2},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct snapshot snapshot = {.ramp_start_ns = cases[i].start_ns,
                                    .interval_ns = cases[i].interval_ns};
        struct snapshot_vm vm = {.tree[TREE_DRAM] = cases[i].ramp};

        assert_true(snapshot_energy_uj(&snapshot, &vm, TREE_DRAM, cases[i].time_ns) ==
                    cases[i].energy_uj);
        assert_true(snapshot_energy_uj(&snapshot, &vm, TREE_PACKAGE, cases[i].time_ns) == 0);
    }
}

/* Ticks come early, late and twice as late; the value stands or rises, and ends at the total. */
static void test_ramps_join(void **state)
{
    static const uint64_t gaps_ns[] = {1000, 990, 1013, 2000, 1000, 1};
    struct snapshot snapshot = {.interval_ns = 1000};
    struct snapshot_vm vm = {0};
    uint64_t last = 0, now = 5000;

    for (size_t i = 0; i < ELEMENTS(gaps_ns); i++) {
        uint64_t end = now + gaps_ns[i];

        snapshot.ramp_start_ns = now;
        vm.tree[TREE_PACKAGE].from_uj = vm.tree[TREE_PACKAGE].to_uj;
        vm.tree[TREE_PACKAGE].to_uj += 777 * i;
        for (; now < end; now++) {
            uint64_t value = snapshot_energy_uj(&snapshot, &vm, TREE_PACKAGE, now);

            assert_true(value >= last);
            assert_true(value <= vm.tree[TREE_PACKAGE].to_uj);
            last = value;
        }
    }
    assert_true(snapshot_energy_uj(&snapshot, &vm, TREE_PACKAGE, now + 1000) == 777 * 15);
}

static void *read_board(void *data)
{
    struct snapshot_board *board = data;
    uint64_t last = 0;

    while (last < POSTS) {
        const struct snapshot *snapshot = snapshot_board_acquire(board);

        if (!snapshot)
            continue;
        /* A snapshot that was freed under the reader shows here, under the sanitizers at least. */
        if (snapshot->time_ns < last || snapshot->vms[0].cpu_ns != snapshot->time_ns)
            return data;
        last = snapshot->time_ns;
        snapshot_board_release(board, snapshot);
    }
    return NULL;
}

static void test_board_threads(void **state)
{
    struct snapshot_board *board;
    pthread_t threads[READERS];
    struct snapshot_vm vm;

    assert_int_equal(snapshot_board_new(&board), 0);
    assert_null(snapshot_board_acquire(board));
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_board, board), 0);
    fixture_vm(&vm, 1, 1, "vm");
    for (uint64_t i = 1; i <= POSTS; i++) {
        struct snapshot *snapshot;

        vm.cpu_ns = i;
        snapshot = fixture_snapshot(&vm, 1);
        snapshot->time_ns = i;
        snapshot_board_post(board, snapshot);
    }
    for (unsigned i = 0; i < READERS; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_null(snapshot_board_free(board));
    assert_null(snapshot_board_free(NULL));
}

/* A reader's snapshot outlives the ones that replace it. */
static void test_board_references(void **state)
{
    struct snapshot *first = fixture_snapshot(NULL, 0), *second = fixture_snapshot(NULL, 0);
    struct snapshot_board *board;
    const struct snapshot *held;

    first->time_ns = 1;
    second->time_ns = 2;
    assert_int_equal(snapshot_board_new(&board), 0);
    snapshot_board_post(board, first);
    held = snapshot_board_acquire(board);
    snapshot_board_post(board, second);
    assert_int_equal(held->time_ns, 1);
    assert_int_equal(held->references, 1);
    snapshot_board_release(board, held);
    held = snapshot_board_acquire(board);
    assert_ptr_equal(held, second);
    assert_int_equal(held->references, 2);
    snapshot_board_release(board, held);
    snapshot_board_release(board, NULL);
    snapshot_board_free(board);
}

static void test_buckets_rise(void **state)
{
    for (size_t i = 1; i < TICK_BUCKETS; i++)
        assert_true(tick_bucket_seconds[i] > tick_bucket_seconds[i - 1]);
    assert_true(tick_bucket_seconds[0] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_ramp),
        cmocka_unit_test(test_ramps_join),
        cmocka_unit_test(test_board_threads),
        cmocka_unit_test(test_board_references),
        cmocka_unit_test(test_buckets_rise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
