/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conservation.h"
#include "fixture.h"
#include "ledger/ledger.h"
#include "metered_machine.h"
#include "platform/platform_store.h"
#include "platform/platform_zone.h"
#include "util/clock.h"

/*
 * From the meters to the ledger: a host with two VMs whose true share of the
 * whole machine's energy is known.
 */

#define VMS 2
#define START_S 1000
#define POLL_S 5
#define IDLE_WATTS 80.0 /* of RAPL */
#define DRAM_PART 0.1
#define CORES 32

enum { PLATFORM, PACKAGE, DRAM, PSYS };

struct host {
    struct zone_set zones;
    struct sample sample;
    struct static_power static_powers[ZONES_MAX];
    struct platform *platform;
    struct platform_store store;
    struct platform_reading reading;
    struct attribution_model *model;
    struct ledger *ledger;
    struct machine machine;
    struct vm vms[VMS];
    struct vm_table table;
    struct usage_vm usage_vms[VMS];
    struct usage usage;
    bool known; /* the platform's energy of the last interval */
    double true_joules[VMS];
    double true_host_joules;
    double parts[VMS]; /* of the dynamic RAPL energy */
};

static const struct zone_set rapl_zones = {
    .n = 3,
    .zones = {[PACKAGE] = {.name = "package-0", .kind = ZONE_PACKAGE, .source = "rapl"},
              [DRAM] = {.name = "dram", .kind = ZONE_DRAM, .source = "rapl"}},
};
static const struct zone_set estimate_zones = {
    .n = 2,
    .zones = {[PACKAGE] = {.name = "package-0", .kind = ZONE_PACKAGE, .source = "estimate"}},
};

static void host_init(struct host *host, const struct zone_set *zones, const char *runtime_dir)
{
    struct ledger_config config = {.interval_ns = NSEC_PER_SEC, .publish_psys = true};
    bool has_rapl = zones == &rapl_zones;

    memset(host, 0, sizeof(*host));
    host->zones = *zones;
    host->zones.zones[PLATFORM] = platform_zone(has_rapl);
    host->static_powers[PACKAGE] = (struct static_power){
        .origin = STATIC_CONFIGURED, .power_uw = (uint64_t)(IDLE_WATTS * (1 - DRAM_PART) * 1e6)};
    host->static_powers[DRAM] = (struct static_power){
        .origin = STATIC_CONFIGURED, .power_uw = (uint64_t)(IDLE_WATTS * DRAM_PART * 1e6)};
    host->store = (struct platform_store){
        .runtime_dir = runtime_dir, .is_power = has_rapl, .n = 1, .meters = {"dcmi"}};
    host->machine = typical_machine;
    host->machine.random.state = 1;
    assert_int_equal(platform_new(&host->platform, 1), 0);
    assert_int_equal(cputime_model_new(&MODEL_OPTIONS_DEFAULT, &host->model), 0);
    config.model = host->model;
    assert_int_equal(ledger_new(&host->ledger, &config), 0);
    for (unsigned i = 0; i < VMS; i++) {
        host->vms[i].uuid[15] = (unsigned char)(i + 1);
        host->vms[i].running = true;
        uuid_copy(host->usage_vms[i].uuid, host->vms[i].uuid);
    }
    host->table = (struct vm_table){host->vms, VMS};
    host->usage = (struct usage){.n_sockets = 1, .vms = host->usage_vms, .n_vms = VMS};
}

static void host_deinit(struct host *host)
{
    platform_free(host->platform);
    ledger_free(host->ledger);
    attribution_model_free(host->model);
}

/* The VMs' loads come and go; the disks are the second one's. */
static void use(struct host *host)
{
    struct machine *machine = &host->machine;
    double dynamic = machine->rapl - IDLE_WATTS, busy;

    if (host->parts[0] <= 0 || random_uniform(&machine->random, 0, 1) < 0.02)
        host->parts[0] = random_uniform(&machine->random, 0.1, 0.8);
    host->parts[1] = 0.9 - host->parts[0];
    busy = dynamic / (machine->rapl_max - IDLE_WATTS) * CORES * (double)NSEC_PER_SEC;
    for (unsigned i = 0; i < VMS; i++) {
        host->usage_vms[i].amount.sockets[0].cpu_ns = (uint64_t)(busy * host->parts[i]);
        /* Memory goes by residency. */
        host->usage_vms[i].amount.sockets[0].memory_bytes = (uint64_t)(1e9 * host->parts[i]);
        host->true_joules[i] += machine->slope * dynamic * host->parts[i];
    }
    host->usage.host.sockets[0].cpu_ns = (uint64_t)(busy * 0.1);
    host->usage.host.sockets[0].memory_bytes = (uint64_t)(1e9 * 0.1);
    host->true_host_joules += machine->slope * dynamic * 0.1;
    host->usage_vms[1].amount.io_bytes = (uint64_t)machine->io;
    host->true_joules[1] += machine->io_joules_per_byte * machine->io;
}

static void measure(struct host *host, uint64_t time_ns)
{
    const double joules[] = {
        [PACKAGE] = host->machine.rapl * (1 - DRAM_PART),
        [DRAM] = host->machine.rapl * DRAM_PART,
        [PSYS] = machine_watts(&host->machine),
    };

    host->sample = (struct sample){.time_ns = time_ns};
    for (size_t slot = PACKAGE; slot < host->zones.n; slot++)
        host->sample.zones[slot] = (struct sample_zone){.valid = true,
                                                        .energy_uj = (uint64_t)(joules[slot] * 1e6),
                                                        .duration_ns = NSEC_PER_SEC};
}

static void advance_platform(struct host *host)
{
    const struct platform_zone_input input = {
        .zones = &host->zones,
        .usage = &host->usage,
        .readings = &host->reading,
        .static_powers = host->static_powers,
        .duration_ns = NSEC_PER_SEC,
    };
    struct platform_zone_result result;

    host->known = platform_zone_advance(host->platform, &input, &host->sample, &result);
    if (!host->known)
        return;
    host->static_powers[PLATFORM] = result.static_power;
    if (host->store.is_power)
        ledger_set_platform(host->ledger, PLATFORM, result.io_pj_per_byte);
}

static void tick(struct host *host)
{
    double shown = machine_step(&host->machine);
    uint64_t time_ns = (START_S + host->machine.time_s) * NSEC_PER_SEC;

    use(host);
    measure(host, time_ns);
    if (host->machine.time_s % POLL_S == 0 && host->machine.time_s > 60)
        host->reading = (struct platform_reading){
            .time_ns = time_ns, .power_uw = (uint64_t)(shown * 1e6), .resolution_uw = 1000000};
    assert_int_equal(ledger_update_vms(host->ledger, &host->table, time_ns), 0);
    advance_platform(host);
    assert_int_equal(ledger_record(host->ledger, &host->zones, &host->sample, &host->usage,
                                   host->static_powers),
                     0);
    platform_store_keep(&host->store, host->platform);
}

static struct snapshot *take_snapshot(struct host *host)
{
    struct snapshot *snapshot;

    assert_int_equal(ledger_snapshot(host->ledger, &host->zones, &host->sample,
                                     (START_S + host->machine.time_s) * NSEC_PER_SEC, &snapshot),
                     0);
    assert_conserved(snapshot);
    return snapshot;
}

static void run_seconds(struct host *host, unsigned seconds)
{
    memset(host->true_joules, 0, sizeof(host->true_joules));
    host->true_host_joules = 0;
    for (unsigned i = 0; i < seconds; i++)
        tick(host);
}

static void run_minutes(struct host *host, unsigned minutes)
{
    run_seconds(host, minutes * 60);
}

static uint64_t zone_energy(struct host *host)
{
    struct snapshot *snapshot = take_snapshot(host);
    uint64_t energy_uj = snapshot->zones[PLATFORM].measured_uj;

    snapshot_free(snapshot);
    return energy_uj;
}

/* Ten minutes after an hour of learning: every VM's part of the platform within 5 % of the truth.
 */
static void test_with_rapl(void **state)
{
    static const struct {
        unsigned delay_s, update_s;
    } meters[] = {{0, 1}, {20, 7}, {20, 30}};

    for (size_t m = 0; m < ELEMENTS(meters); m++) {
        struct snapshot *before, *after;
        struct host host;

        host_init(&host, &rapl_zones, *state);
        host.machine.delay_s = meters[m].delay_s;
        host.machine.update_s = meters[m].update_s;
        host.machine.io_max = 1e9;
        host.machine.io_joules_per_byte = 2e-8;
        run_minutes(&host, 60);
        before = take_snapshot(&host);
        run_minutes(&host, 10);
        after = take_snapshot(&host);
        assert_string_equal(after->zones[0].zone.name, "platform");
        assert_string_equal(after->zones[0].zone.source, "modelled");
        assert_string_equal(after->zones[1].zone.source, "rapl");
        assert_int_equal(after->zones[0].zone.kind, ZONE_PSYS);
        assert_true(after->vms[0].tree_zones & 1u << TREE_PSYS);
        assert_int_equal(host.static_powers[PLATFORM].origin, STATIC_FROM_LOAD);
        assert_int_equal(host.static_powers[PLATFORM].state, STATIC_LEARNED);
        assert_float_equal((double)host.static_powers[PLATFORM].power_uw / 1e6,
                           177.8 + 1.334 * IDLE_WATTS, 0.05 * 177.8);
        for (unsigned i = 0; i < VMS; i++)
            assert_float_equal(
                (double)(after->vms[i].dynamic_uj[0] - before->vms[i].dynamic_uj[0]) / 1e6,
                host.true_joules[i], 0.05 * host.true_joules[i]);
        assert_float_equal((double)(after->zones[0].host_uj - before->zones[0].host_uj) / 1e6,
                           host.true_host_joules, 0.05 * host.true_host_joules);
        snapshot_free(before);
        snapshot_free(after);
        host_deinit(&host);
    }
}

/* The meter alone: the estimate gives way to what is learned from it, and comes back when it is
   silent for long. In no interval are there both. */
static void test_without_rapl(void **state)
{
    struct snapshot *first, *learned, *silent;
    struct host host;

    host_init(&host, &estimate_zones, *state);
    run_minutes(&host, 1);
    first = take_snapshot(&host);
    assert_false(host.known);
    assert_int_equal(first->zones[0].measured_uj, 0);
    assert_true(first->zones[1].measured_uj > 0);
    assert_string_equal(first->zones[0].zone.name, "package-0");
    assert_string_equal(first->zones[0].zone.source, "modelled");
    assert_string_equal(first->zones[1].zone.source, "estimate");
    run_minutes(&host, 60);
    learned = take_snapshot(&host);
    assert_true(host.known);
    assert_ptr_equal(platform_used(host.platform), platform_get_meter(host.platform, 0));
    assert_true(learned->zones[0].readable);
    assert_false(learned->zones[1].readable);
    run_minutes(&host, 10);
    silent = take_snapshot(&host);
    assert_int_equal(silent->zones[1].measured_uj, learned->zones[1].measured_uj);
    for (unsigned i = 0; i < VMS; i++)
        assert_float_equal((double)(silent->vms[i].dynamic_uj[0] - learned->vms[i].dynamic_uj[0]) /
                               1e6,
                           host.true_joules[i], 0.05 * host.true_joules[i]);
    snapshot_free(first);
    snapshot_free(learned);
    snapshot_free(silent);
    host_deinit(&host);
}

/* A host with psys has its whole power measured: no second row, but the meter is shown. */
static void test_with_psys(void **state)
{
    struct host host;

    host_init(&host, &rapl_zones, *state);
    host.zones.zones[host.zones.n++] =
        (struct zone){.name = "psys", .kind = ZONE_PSYS, .socket = ZONE_ALL_SOCKETS};
    run_minutes(&host, 30);
    assert_false(host.known);
    assert_int_equal(zone_energy(&host), 0);
    assert_true(platform_get_meter(host.platform, 0)->estimate.known);
    host_deinit(&host);
}

/* Sooner than it could learn: the next daemon goes on with what was learned, once a reading agrees;
   not for another load, nor on a machine that has changed. */
static void test_restart(void **state)
{
    struct host host;

    host_init(&host, &rapl_zones, *state);
    run_minutes(&host, 30);
    assert_true(zone_energy(&host) > 0);
    host_deinit(&host);

    host_init(&host, &rapl_zones, *state);
    platform_store_restore(&host.store, host.platform);
    run_seconds(&host, 90);
    assert_true(zone_energy(&host) > 0);
    host_deinit(&host);

    host_init(&host, &rapl_zones, *state);
    platform_store_restore(&host.store, host.platform);
    host.machine.static_watts *= 1.5;
    run_seconds(&host, 90);
    assert_int_equal(zone_energy(&host), 0);
    host_deinit(&host);

    host_init(&host, &estimate_zones, *state);
    platform_store_restore(&host.store, host.platform);
    run_seconds(&host, 90);
    assert_int_equal(zone_energy(&host), 0);
    host_deinit(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_with_rapl, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_without_rapl, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_with_psys, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_restart, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
