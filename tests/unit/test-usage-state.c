/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How far usage was counted, from one daemon to the next. */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/usage_store.h"
#include "fixture.h"
#include "host/cpu_busy.h"
#include "usage/process_table.h"
#include "usage/usage_state.h"
#include "util/clock.h"
#include "util/file.h"

#define TIME_NS UINT64_C(123456789)

static void make_state(struct buffer *state)
{
    const uint64_t records[] = {1, 2, 3};

    assert_int_equal(usage_state_begin(state, "bpf", TIME_NS), 0);
    assert_int_equal(buffer_append(state, records, sizeof(records)), 0);
    usage_state_seal(state);
}

static int open_state(const struct buffer *state, size_t size)
{
    struct bytes bytes;

    return usage_state_open(state->bytes, size, "bpf", TIME_NS, &bytes);
}

static void test_state(void **unused)
{
    struct buffer state = {0};
    struct bytes bytes = {0};
    const uint64_t *records;

    make_state(&state);
    assert_int_equal(usage_state_open(state.bytes, state.size, "bpf", TIME_NS, &bytes), 0);
    assert_null(bytes_take(&bytes, 2, 16));
    records = bytes_take(&bytes, 3, sizeof(*records));
    assert_non_null(records);
    assert_int_equal(records[2], 3);
    assert_null(bytes_take(&bytes, 1, 1));
    assert_null(bytes_take(&bytes, SIZE_MAX, 8));
    assert_int_equal(usage_state_open(state.bytes, state.size, "bpf", TIME_NS + 1, &bytes),
                     -ESTALE);
    assert_int_equal(usage_state_open(state.bytes, state.size, "procfs", TIME_NS, &bytes), -ESTALE);
    buffer_deinit(&state);
}

/* Cut or changed anywhere. */
static void test_damaged_state(void **unused)
{
    struct buffer state = {0};

    make_state(&state);
    for (size_t size = 0; size < state.size; size++)
        assert_true(open_state(&state, size) < 0);
    for (size_t bit = 0; bit < 8 * state.size; bit++) {
        state.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_true(open_state(&state, state.size) < 0);
        state.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    assert_int_equal(open_state(&state, state.size), 0);
    ((struct usage_state_head *)state.bytes)->version++;
    assert_int_equal(open_state(&state, state.size), -EPROTONOSUPPORT);
    buffer_deinit(&state);
}

/* Two CPUs, idle for so many ticks of 10 ms. */
static void write_cpus(const char *root, unsigned idle0, unsigned idle1)
{
    char text[256];

    snprintf(text, sizeof(text), "cpu  0\ncpu0 0 0 0 %u 0 0 0 0 0 0\ncpu1 0 0 0 %u 0 0 0 0 0 0\n",
             idle0, idle1);
    fixture_write(root, text, "stat");
}

/* The next daemon's totals go on where the last one's ended, the time between included. */
static void test_cpu_busy(void **state)
{
    struct cpu_busy *busy;
    struct buffer saved = {0};
    struct bytes bytes;
    uint64_t start = now_ns(), begun, before;

    write_cpus(*state, 0, 0);
    assert_int_equal(cpu_busy_new(&busy, *state), 0);
    begun = now_ns();
    write_cpus(*state, 100, 0);
    assert_int_equal(cpu_busy_update(busy, start + 3 * NSEC_PER_SEC), 0);
    before = cpu_busy_ns(busy, 0);
    /* Of the 3 s one was idle, and it began after the start. */
    assert_true(before + begun - start >= 2 * NSEC_PER_SEC && before <= 2 * NSEC_PER_SEC);
    assert_int_equal(cpu_busy_save(busy, &saved), 0);
    cpu_busy_free(busy);

    write_cpus(*state, 200, 1000000);
    assert_int_equal(cpu_busy_new(&busy, *state), 0);
    for (size_t size = 0; size < saved.size; size++) {
        bytes = (struct bytes){saved.bytes, size};
        assert_int_equal(cpu_busy_restore(busy, &bytes, start + 9 * NSEC_PER_SEC), -EBADMSG);
    }
    /* Nothing may be of the future. */
    bytes = (struct bytes){saved.bytes, saved.size};
    assert_int_equal(cpu_busy_restore(busy, &bytes, start - 1), -EBADMSG);
    assert_int_equal(cpu_busy_ns(busy, 0), 0);

    bytes = (struct bytes){saved.bytes, saved.size};
    assert_int_equal(cpu_busy_restore(busy, &bytes, start + 9 * NSEC_PER_SEC), 0);
    assert_int_equal(bytes.left, 0);
    assert_int_equal(cpu_busy_ns(busy, 0), before);
    write_cpus(*state, 500, 1000000);
    assert_int_equal(cpu_busy_update(busy, start + 10 * NSEC_PER_SEC), 0);
    /* 7 s more, of which 4 s idle; the other CPU did nothing. */
    assert_int_equal(cpu_busy_ns(busy, 0), before + 3 * NSEC_PER_SEC);
    assert_true(cpu_busy_ns(busy, 1) <= 3 * NSEC_PER_SEC);
    cpu_busy_free(busy);
    buffer_deinit(&saved);
}

static void test_population(void **unused)
{
    struct vm_usage_process records[2] = {{.io_bytes = 7}, {.io_bytes = 8}};
    struct tracked_process processes[2] = {
        {.key = {.pid = 3, .start_ticks = 9}, .assigned = true, .uuid = {1}, .record = 1},
        {.key = {.pid = 4, .start_ticks = 1}, .listed_ns = 5, .record = 0},
    };
    size_t record_size = offsetof(struct vm_usage_process, sockets);
    struct process_table table = {processes, NULL, record_size, 2}, restored;
    struct buffer saved = {0};
    struct bytes bytes;

    memcpy((char *)records + record_size, &records[1], record_size);
    table.records = (char *)records;
    assert_int_equal(process_table_save(&table, &saved), 0);
    for (size_t size = 0; size < saved.size; size++) {
        bytes = (struct bytes){saved.bytes, size};
        assert_int_equal(process_table_restore(&restored, &bytes, record_size), -EBADMSG);
    }
    bytes = (struct bytes){saved.bytes, saved.size};
    assert_int_equal(process_table_restore(&restored, &bytes, record_size), 0);
    assert_int_equal(restored.n, 2);
    assert_true(restored.processes[0].assigned && restored.processes[0].uuid[0] == 1);
    assert_int_equal(process_table_record(&restored, &restored.processes[0])->io_bytes, 8);
    assert_int_equal(restored.processes[1].listed_ns, 5);
    assert_int_equal(process_table_record(&restored, &restored.processes[1])->io_bytes, 7);
    process_table_deinit(&restored);

    /* Searches need the order. */
    processes[0].key.pid = 5;
    saved.size = 0;
    assert_int_equal(process_table_save(&table, &saved), 0);
    bytes = (struct bytes){saved.bytes, saved.size};
    assert_int_equal(process_table_restore(&restored, &bytes, record_size), -EBADMSG);
    buffer_deinit(&saved);
}

/* A provider that has counted up to a number. */
static uint64_t counted;

static int save_number(const struct usage_provider *provider, struct buffer *ret)
{
    return buffer_append(ret, &counted, sizeof(counted));
}

static const struct usage_provider_ops numbers = {.name = "numbers", .save = save_number};

/* The number that the next daemon finds for an interval, or 0. */
static uint64_t load_number(struct usage_store *store, uint64_t time_ns)
{
    struct usage_former former = {0};
    struct bytes bytes;

    usage_store_load(store, time_ns, &former);
    if (!former.state ||
        usage_state_open(former.state, former.state_size, "numbers", time_ns, &bytes) < 0)
        return 0;
    assert_int_equal(bytes.left, sizeof(uint64_t));
    return *(const uint64_t *)(const void *)bytes.next;
}

/* Killed after usage was saved and before the ledger was, any number of times. */
static void test_store(void **state)
{
    const struct usage_provider provider = {.ops = &numbers};
    struct usage_store *store;

    assert_int_equal(usage_store_new(&store, *state), 0);
    assert_int_equal(load_number(store, 11), 0);
    for (counted = 1; counted <= 5; counted++)
        usage_store_save(store, &provider, 10 + counted);
    usage_store_free(store);

    for (uint64_t next = 20; next < 23; next++) {
        assert_int_equal(usage_store_new(&store, *state), 0);
        assert_int_equal(load_number(store, 14), 4);
        usage_store_save(store, &provider, next);
        usage_store_free(store);
    }
    assert_int_equal(usage_store_new(&store, *state), 0);
    assert_int_equal(load_number(store, 13), 0);
    usage_store_free(store);
    assert_int_equal(usage_store_new(&store, *state), 0);
    assert_int_equal(load_number(store, 22), 6);
    usage_store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_damaged_state),
        cmocka_unit_test_setup_teardown(test_cpu_busy, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_population),
        cmocka_unit_test_setup_teardown(test_store, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
