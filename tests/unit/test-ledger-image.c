/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "../lib/machine.h"
#include "conservation.h"
#include "ledger/ledger_image.h"
#include "ledger/ledger_reserve.h"

static const struct ledger_stamp stamp = {.sequence = 1, .identity = {{1}, {2}}};

static void start(struct machine *machine, const char *source, enum static_policy policy)
{
    machine_start(machine, 3, source, policy);
}

static void run(struct machine *machine, unsigned ticks)
{
    for (unsigned i = 0; i < ticks; i++)
        machine_run_tick(machine);
}

static struct ledger_image save(const struct machine *machine, struct buffer *buffer)
{
    struct ledger_image image;

    assert_int_equal(ledger_save(machine->ledger, &machine->sampler, &stamp, buffer), 0);
    assert_int_equal(ledger_image_parse(buffer->bytes, buffer->size, &image), 0);
    return image;
}

/* The next daemon, at the same moment. */
static void restart(struct machine *machine, const char *source, enum static_policy policy)
{
    struct buffer buffer = {0};
    struct ledger_image image = save(machine, &buffer);
    uint64_t time_ns = machine->time_ns;

    machine_deinit(machine);
    start(machine, source, policy);
    machine->time_ns = time_ns;
    assert_int_equal(ledger_restore(machine->ledger, &image, machine->time_ns), 0);
    ledger_image_readings(&image, source, &machine->zones, machine->time_ns, &machine->sampler);
    buffer_deinit(&buffer);
}

static struct snapshot *snapshot(struct machine *machine)
{
    struct snapshot *ret = machine_snapshot(machine);

    assert_conserved(ret);
    return ret;
}

/* To the last fraction: a daemon that was restarted ends where one that was not ends. */
static void test_continues_as_if_never_stopped(void **state)
{
    struct buffer one_image = {0}, other_image = {0};
    struct machine one, other;

    start(&one, "rapl", STATIC_VCPU);
    start(&other, "rapl", STATIC_VCPU);
    run(&one, 40);
    for (int i = 0; i < 4; i++) {
        run(&other, 10);
        restart(&other, "rapl", STATIC_VCPU);
        assert_true(other.sampler.last[3].valid && !other.sampler.gap[3]);
    }
    run(&one, 1);
    run(&other, 1);
    save(&one, &one_image);
    save(&other, &other_image);
    assert_int_equal(one_image.size, other_image.size);
    assert_memory_equal(one_image.bytes, other_image.bytes, one_image.size);
    buffer_deinit(&one_image);
    buffer_deinit(&other_image);
    machine_deinit(&one);
    machine_deinit(&other);
}

static void test_learned_static_power_is_kept(void **state)
{
    static const struct static_power learned = {STATIC_FROM_LOAD, STATIC_LEARNED, 40000000, 900000,
                                                0},
                                     given = {.origin = STATIC_CONFIGURED, .power_uw = 3},
                                     least = {.origin = STATIC_FLOOR, .power_uw = 2000000};
    struct machine machine;
    struct static_power kept;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    machine.static_powers[0] = learned;
    machine.static_powers[1] = given;
    machine.static_powers[2] = least;
    run(&machine, 1);
    restart(&machine, "rapl", STATIC_EQUAL);
    kept = ledger_get_learned(machine.ledger, "rapl", machine.zones.zones[0].name);
    assert_int_equal(kept.origin, STATIC_FROM_LOAD);
    assert_int_equal(kept.state, STATIC_LEARNING);
    assert_int_equal(kept.power_uw, learned.power_uw);
    assert_int_equal(kept.uncertainty_uw, learned.uncertainty_uw);
    kept = ledger_get_learned(machine.ledger, "rapl", machine.zones.zones[1].name);
    assert_int_equal(kept.origin, STATIC_NONE);
    kept = ledger_get_learned(machine.ledger, "rapl", machine.zones.zones[2].name);
    assert_int_equal(kept.origin, STATIC_FLOOR);
    assert_int_equal(kept.power_uw, least.power_uw);
    kept = ledger_get_learned(machine.ledger, "estimate", machine.zones.zones[0].name);
    assert_int_equal(kept.origin, STATIC_NONE);
    machine_deinit(&machine);
}

/* Open files of a guest must not go stale before discovery has found its VM again. */
static void test_trees_are_there_at_once(void **state)
{
    struct machine machine;
    struct snapshot *shown;
    unsigned zones;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    shown = snapshot(&machine);
    zones = shown->vms[2].tree_zones;
    snapshot_free(shown);
    restart(&machine, "rapl", STATIC_EQUAL);
    machine.vms.n = 2;
    machine_update_vms(&machine);
    machine.time_ns += LEDGER_AWAIT_NS - NSEC_PER_SEC;
    shown = snapshot(&machine);
    assert_true(shown->vms[2].has_tree);
    assert_false(shown->vms[2].running);
    assert_int_equal(shown->vms[2].tree_zones, zones);
    snapshot_free(shown);
    machine.time_ns += NSEC_PER_SEC;
    shown = snapshot(&machine);
    assert_true(shown->vms[1].has_tree);
    assert_false(shown->vms[2].has_tree);
    snapshot_free(shown);
    machine_deinit(&machine);
}

/* One that was found and then ended is not awaited. */
static void test_found_once_is_awaited_no_more(void **state)
{
    struct machine machine;
    struct snapshot *shown;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    restart(&machine, "rapl", STATIC_EQUAL);
    for (; machine.vms.n > 1; machine.vms.n--)
        machine_update_vms(&machine);
    shown = snapshot(&machine);
    assert_false(shown->vms[2].has_tree);
    snapshot_free(shown);
    machine_deinit(&machine);
}

static void test_zones_are_known_by_name(void **state)
{
    struct machine machine;
    struct buffer buffer = {0};
    struct ledger_image image;
    struct snapshot *before, *after;
    struct sampler sampler = {0};

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 5);
    before = snapshot(&machine);
    image = save(&machine, &buffer);
    /* package-1 comes first now, and dram-1 is gone. */
    machine.zones.zones[0] = machine.zones.zones[2];
    machine.zones.zones[2] = before->zones[0].zone;
    machine.zones.n = 3;
    ledger_image_readings(&image, "rapl", &machine.zones, machine.time_ns, &sampler);
    assert_int_equal(sampler.last[2].energy_uj, machine.sampler.last[0].energy_uj);
    assert_false(sampler.last[3].valid);
    assert_int_equal(ledger_restore(machine.ledger, &image, 0), 0);
    assert_int_equal(ledger_update_vms(machine.ledger, &machine.vms, 0), 0);
    after = snapshot(&machine);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(after->vms[i].dynamic_uj[0], before->vms[i].dynamic_uj[2]);
        assert_int_equal(after->vms[i].static_uj[2], before->vms[i].static_uj[0]);
        assert_int_equal(after->vms[i].dynamic_uj[1], before->vms[i].dynamic_uj[1]);
        assert_int_equal(after->vms[i].id, before->vms[i].id);
        /* What guests see lost nothing with the zone, and stands where its ramp was to end. */
        assert_memory_equal(&after->vms[i].tree[TREE_DRAM].to_uj,
                            &before->vms[i].tree[TREE_DRAM].to_uj, sizeof(uint64_t));
        assert_int_equal(after->vms[i].tree[TREE_PACKAGE].from_uj,
                         before->vms[i].tree[TREE_PACKAGE].to_uj);
    }
    assert_int_equal(after->zones[0].measured_uj, before->zones[2].measured_uj);
    snapshot_free(before);
    snapshot_free(after);
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

/* A zone that could not be read when the last interval ended: its energy is of a longer time. */
static void test_readings_of_an_earlier_interval(void **state)
{
    struct buffer buffer = {0};
    struct ledger_stamp last = stamp;
    struct machine machine;
    struct ledger_image image;
    struct sampler sampler = {0};

    start(&machine, "rapl", STATIC_VCPU);
    run(&machine, 3);
    last.time_ns = machine.time_ns;
    machine.sampler.last[2].time_ns--;
    assert_int_equal(ledger_save(machine.ledger, &machine.sampler, &last, &buffer), 0);
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), 0);
    ledger_image_readings(&image, "rapl", &machine.zones, UINT64_MAX, &sampler);
    for (size_t slot = 0; slot < machine.zones.n; slot++) {
        assert_true(sampler.last[slot].valid);
        assert_int_equal(sampler.gap[slot], slot == 2);
    }
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

static void test_readings_of_another_counter(void **state)
{
    struct buffer buffer = {0};
    struct machine machine;
    struct sampler sampler = {0};
    struct ledger_image image;

    start(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 2);
    image = save(&machine, &buffer);
    ledger_image_readings(&image, "estimate", &machine.zones, UINT64_MAX, &sampler);
    assert_false(sampler.last[0].valid);
    ledger_image_readings(&image, "rapl", &machine.zones, machine.sampler.last[0].time_ns - 1,
                          &sampler);
    assert_false(sampler.last[0].valid);
    machine.zones.zones[0].max_energy_uj = machine.sampler.last[0].energy_uj - 1;
    ledger_image_readings(&image, "rapl", &machine.zones, UINT64_MAX, &sampler);
    assert_false(sampler.last[0].valid);
    assert_true(sampler.last[1].valid);
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

/* An estimate is no measurement: it has its own totals. Guests' counters run over both. */
static void test_sources_are_kept_apart(void **state)
{
    struct snapshot *rapl, *estimate, *rapl_again;
    struct machine machine;

    start(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 5);
    rapl = snapshot(&machine);
    restart(&machine, "estimate", STATIC_EXCLUDE);
    run(&machine, 1);
    estimate = snapshot(&machine);
    assert_true(estimate->zones[0].measured_uj < rapl->zones[0].measured_uj);
    restart(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 0);
    assert_int_equal(ledger_update_vms(machine.ledger, &machine.vms, 0), 0);
    rapl_again = snapshot(&machine);
    assert_int_equal(rapl_again->zones[0].measured_uj, rapl->zones[0].measured_uj);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rapl_again->vms[i].dynamic_uj[0], rapl->vms[i].dynamic_uj[0]);
        assert_int_equal(estimate->vms[i].tree[TREE_PACKAGE].from_uj,
                         rapl->vms[i].tree[TREE_PACKAGE].to_uj);
        assert_true(estimate->vms[i].tree[TREE_PACKAGE].to_uj >=
                    rapl->vms[i].tree[TREE_PACKAGE].to_uj);
        assert_int_equal(rapl_again->vms[i].tree[TREE_PACKAGE].from_uj,
                         estimate->vms[i].tree[TREE_PACKAGE].to_uj);
    }
    snapshot_free(rapl);
    snapshot_free(estimate);
    snapshot_free(rapl_again);
    machine_deinit(&machine);
}

static void assert_not_below(const struct snapshot *after, const struct snapshot *before)
{
    assert_int_equal(after->n_vms, before->n_vms);
    for (size_t i = 0; i < after->n_vms; i++) {
        const struct snapshot_vm *vm = &after->vms[i], *was = &before->vms[i];

        for (size_t slot = 0; slot < after->n_zones; slot++) {
            assert_true(vm->dynamic_uj[slot] >= was->dynamic_uj[slot]);
            assert_true(vm->static_uj[slot] >= was->static_uj[slot]);
        }
        for (int zone = 0; zone < TREE_ZONES; zone++)
            assert_true(vm->tree[zone].from_uj >= was->tree[zone].to_uj);
        assert_true(vm->cpu_ns >= was->cpu_ns);
    }
}

static void test_a_policy_change_moves_nothing_back(void **state)
{
    for (int from = STATIC_EXCLUDE; from <= STATIC_VCPU; from++) {
        for (int to = STATIC_EXCLUDE; to <= STATIC_VCPU; to++) {
            struct snapshot *before, *after;
            struct machine machine;

            start(&machine, "rapl", (enum static_policy)from);
            run(&machine, 5);
            before = snapshot(&machine);
            assert_int_equal(before->vms[2].static_uj[0] > 0, from != STATIC_EXCLUDE);
            restart(&machine, "rapl", (enum static_policy)to);
            run(&machine, 1);
            after = snapshot(&machine);
            assert_not_below(after, before);
            assert_int_equal(after->vms[2].static_uj[0] > before->vms[2].static_uj[0],
                             to != STATIC_EXCLUDE);
            snapshot_free(before);
            snapshot_free(after);
            machine_deinit(&machine);
        }
    }
}

static void forget(uint32_t id, void *userdata)
{
    *(uint32_t *)userdata = id;
}

static void test_ended_vms_and_ids(void **state)
{
    struct machine machine;
    struct snapshot *after;
    uint32_t forgotten = 0;
    uint64_t energy_uj;

    start(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 5);
    snapshot_free(snapshot(&machine));
    /* The last VM ends; its row outlives a restart, then goes to "former", which outlives one. */
    machine.vms.n = machine.usage.n_vms = 2;
    restart(&machine, "rapl", STATIC_EXCLUDE);
    machine.vms.n = machine.usage.n_vms = 2;
    run(&machine, 1);
    after = snapshot(&machine);
    assert_int_equal(after->n_vms, 3);
    assert_string_equal(after->vms[2].name, "vm2");
    assert_false(after->vms[2].running);
    energy_uj = after->vms[2].dynamic_uj[0];
    assert_true(energy_uj > 0);
    snapshot_free(after);
    ledger_expire(machine.ledger, machine.time_ns + LEDGER_KEEP_NS, forget, &forgotten);
    assert_true(forgotten > 0);
    restart(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 1);
    after = snapshot(&machine);
    assert_int_equal(after->n_vms, 4);
    assert_string_equal(after->vms[0].name, "former");
    assert_int_equal(after->vms[0].dynamic_uj[0], energy_uj);
    assert_true(after->vms[3].id > forgotten);
    snapshot_free(after);
    machine_deinit(&machine);
}

/* Bytes that are not an image. */

static void test_every_cut_and_every_bit(void **state)
{
    struct buffer buffer = {0};
    struct machine machine;
    struct ledger_image image;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    save(&machine, &buffer);
    for (size_t size = 0; size < buffer.size; size++) {
        /* Exactly so long, for the sanitizers and valgrind to see what lies beyond. */
        unsigned char *cut = malloc(size);

        memcpy(cut, buffer.bytes, size);
        assert_true(ledger_image_parse(cut, size, &image) < 0);
        free(cut);
    }
    for (size_t bit = 0; bit < buffer.size * 8; bit++) {
        buffer.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_true(ledger_image_parse(buffer.bytes, buffer.size, &image) < 0);
        buffer.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), 0);
    ((struct image_head *)buffer.bytes)->version++;
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), -EPROTONOSUPPORT);
    ((struct image_head *)buffer.bytes)->magic[0]++;
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), -ENOMSG);
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

/* What a checksum does not tell: each writes one 32 or 64 bit value. */
static const struct {
    enum { HEAD, ACCOUNT, SECOND_ACCOUNT, ROW, SECOND_ROW, FORMER, ENERGY, RECORDS } record;
    size_t offset;
    size_t size;
    uint64_t value;
} wrongs[] = {
#define FIELD(record, type, member, value)                                                         \
    {                                                                                              \
        record, offsetof(struct type, member), sizeof(((struct type *)0)->member), value           \
    }
    FIELD(HEAD, image_head, last_id, 3),
    FIELD(HEAD, image_head, zero, 1),
    FIELD(ACCOUNT, image_totals, kind, ZONE_PSYS + 1),
    FIELD(ACCOUNT, image_totals, reading_valid, 2),
    FIELD(ACCOUNT, image_totals, measured_uj, 12345),
    FIELD(ACCOUNT, image_totals, host_uj, UINT64_MAX),
    FIELD(ACCOUNT, image_totals, static_deficit_uj, 1),
    FIELD(ACCOUNT, image_totals, static_deficit_uj, UINT64_C(1) << 63),
    FIELD(ACCOUNT, image_totals, learned_known, 2),
    FIELD(ACCOUNT, image_totals, learned_uw, ZONE_POWER_MAX_W *UINT64_C(1000000) + 1),
    FIELD(ACCOUNT, image_totals, learned_uncertainty_uw, UINT64_MAX),
    {ACCOUNT, offsetof(struct image_totals, name), 1, 0},
    {SECOND_ACCOUNT, offsetof(struct image_totals, name), 1, 0},
    FIELD(ROW, image_row, id, 0),
    FIELD(ROW, image_row, id, 99),
    FIELD(ROW, image_row, manager, 99),
    FIELD(ROW, image_row, cpu_ns, UINT64_MAX),
    FIELD(ROW, image_row, io_bytes, UINT64_MAX),
    {ROW, offsetof(struct image_row, uuid) + 15, 1, 0}, /* as if it were "former" */
    FIELD(SECOND_ROW, image_row, id, 4),                /* that of the first */
    {FORMER, offsetof(struct image_row, uuid), 1, 1},
    FIELD(ENERGY, image_energy, dynamic_uj, 1),
    FIELD(ENERGY, image_energy, static_uj, UINT64_MAX),
};

static void test_wrong_content(void **state)
{
    struct buffer buffer = {0};
    struct machine machine;
    struct ledger_image image;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    for (size_t i = 0; i < ELEMENTS(wrongs); i++) {
        void *records[RECORDS];

        image = save(&machine, &buffer);
        records[HEAD] = image.head;
        records[ACCOUNT] = image.totals;
        records[SECOND_ACCOUNT] = image.totals + 1;
        records[ROW] = ledger_image_row(&image, 0);
        records[SECOND_ROW] = ledger_image_row(&image, 1);
        records[FORMER] = ledger_image_row(&image, 3);
        records[ENERGY] = image_row_energies(ledger_image_row(&image, 0));
        memcpy((char *)records[wrongs[i].record] + wrongs[i].offset, &wrongs[i].value,
               wrongs[i].size);
        ledger_image_seal(buffer.bytes);
        if (ledger_image_parse(buffer.bytes, buffer.size, &image) != -EBADMSG)
            fail_msg("wrong content %zu was accepted", i);
    }
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

/* Two accounts of one zone, two rows of one VM. */
static void test_twice(void **state)
{
    struct buffer buffer = {0};
    struct machine machine;
    struct ledger_image image;

    start(&machine, "rapl", STATIC_EQUAL);
    run(&machine, 2);
    image = save(&machine, &buffer);
    memcpy(image.totals[1].name, image.totals[0].name, ZONE_NAME_MAX);
    ledger_image_seal(buffer.bytes);
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), -EBADMSG);

    image = save(&machine, &buffer);
    memcpy(ledger_image_row(&image, 1)->uuid, ledger_image_row(&image, 0)->uuid, sizeof(uuid_t));
    ledger_image_seal(buffer.bytes);
    assert_int_equal(ledger_image_parse(buffer.bytes, buffer.size, &image), 0);
    assert_int_equal(ledger_restore(machine.ledger, &image, 0), -EBADMSG);
    /* It is empty, and works. */
    assert_int_equal(save(&machine, &buffer).head->n_rows, 1);
    run(&machine, 1);
    buffer_deinit(&buffer);
    machine_deinit(&machine);
}

/* The reserve. */

static void test_reserve(void **state)
{
    struct buffer buffers[4] = {{0}};
    struct ledger_image before, now, checkpoint;
    struct ledger_stamp first = stamp, second = stamp;
    struct machine machine;

    start(&machine, "rapl", STATIC_EXCLUDE);
    run(&machine, 2);
    first.time_ns = machine.time_ns;
    assert_int_equal(ledger_save(machine.ledger, &machine.sampler, &first, &buffers[0]), 0);
    run(&machine, 1);
    second.time_ns = machine.time_ns;
    assert_int_equal(ledger_save(machine.ledger, &machine.sampler, &second, &buffers[1]), 0);
    before = ledger_image_view(buffers[0].bytes);
    now = ledger_image_view(buffers[1].bytes);

    assert_int_equal(ledger_reserve_add(&now, &before, NULL, &buffers[2]), 0);
    /* Conservation holds: the parser sees to it. */
    assert_int_equal(ledger_image_parse(buffers[2].bytes, buffers[2].size, &checkpoint), 0);
    assert_true(checkpoint.head->flags & LEDGER_IMAGE_RESERVE);
    assert_false(checkpoint.totals[0].reading_valid);
    assert_true(ledger_reserve_covers(&checkpoint, &now, &before));
    /* 7 W of static power for 75 s; nothing for what does not grow. */
    assert_in_range(checkpoint.totals[0].static_uj - now.totals[0].static_uj, 525000000, 525000100);
    assert_int_equal(checkpoint.totals[0].unattributed_uj, 0);
    for (size_t i = 0; i < now.head->n_rows; i++)
        assert_int_equal(image_row_energies(ledger_image_row(&checkpoint, i))->static_uj, 0);
    /* Former has none. */
    assert_int_equal(image_row_energies(ledger_image_row(&checkpoint, 3))->dynamic_uj, 0);

    /* The next one is not below it, though nothing may have grown since. */
    assert_int_equal(ledger_reserve_add(&now, &now, &checkpoint, &buffers[3]), 0);
    assert_int_equal(ledger_image_parse(buffers[3].bytes, buffers[3].size, &checkpoint), 0);
    assert_true(ledger_reserve_covers(&checkpoint, &now, &before));

    /* Without an interval before nothing is known of the growth: exactly covered, until it grows.
     */
    assert_int_equal(ledger_reserve_add(&now, NULL, NULL, &buffers[2]), 0);
    checkpoint = ledger_image_view(buffers[2].bytes);
    assert_true(ledger_reserve_covers(&checkpoint, &now, NULL));
    assert_false(ledger_reserve_covers(&checkpoint, &now, &before));
    /* A VM that the checkpoint does not know is not covered once it has used energy. */
    checkpoint = before;
    assert_false(ledger_reserve_covers(&checkpoint, &now, NULL));
    for (int i = 0; i < 4; i++)
        buffer_deinit(&buffers[i]);
    machine_deinit(&machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_continues_as_if_never_stopped),
        cmocka_unit_test(test_learned_static_power_is_kept),
        cmocka_unit_test(test_trees_are_there_at_once),
        cmocka_unit_test(test_found_once_is_awaited_no_more),
        cmocka_unit_test(test_zones_are_known_by_name),
        cmocka_unit_test(test_readings_of_an_earlier_interval),
        cmocka_unit_test(test_readings_of_another_counter),
        cmocka_unit_test(test_sources_are_kept_apart),
        cmocka_unit_test(test_a_policy_change_moves_nothing_back),
        cmocka_unit_test(test_ended_vms_and_ids),
        cmocka_unit_test(test_every_cut_and_every_bit),
        cmocka_unit_test(test_wrong_content),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_reserve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
