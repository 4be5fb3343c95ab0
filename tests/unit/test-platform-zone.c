/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "../lib/machine.h"
#include "conservation.h"
#include "fixture.h"
#include "metered_machine.h"
#include "platform/platform_store.h"
#include "platform/platform_zone.h"

/*
 * From the meters to the ledger: a host with two VMs whose true share of the
 * whole machine's energy is known.
 */

#define VMS 2
#define POLL_S 5
#define IDLE_WATTS 80.0 /* of RAPL */
#define DRAM_PART 0.1
#define CORES 32

enum { PLATFORM, PACKAGE, DRAM, RAPL_PSYS };

struct host {
    struct machine machine;
    struct metered_machine metered;
    struct platform *platform;
    struct platform_store store;
    struct platform_reading reading;
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
    bool has_rapl = zones == &rapl_zones;

    *host = (struct host){.metered = typical_machine};
    machine_init(&host->machine, VMS);
    machine_open_ledger(&host->machine, (struct ledger_config){.publish_psys = true});
    host->machine.zones = *zones;
    host->machine.zones.zones[PLATFORM] = platform_zone(has_rapl);
    host->machine.static_powers[PACKAGE] = (struct static_power){
        .origin = STATIC_CONFIGURED, .power_uw = (uint64_t)(IDLE_WATTS * (1 - DRAM_PART) * 1e6)};
    host->machine.static_powers[DRAM] = (struct static_power){
        .origin = STATIC_CONFIGURED, .power_uw = (uint64_t)(IDLE_WATTS * DRAM_PART * 1e6)};
    host->store = (struct platform_store){
        .runtime_dir = runtime_dir, .is_power = has_rapl, .n = 1, .meters = {"dcmi"}};
    host->metered.random.state = 1;
    assert_int_equal(platform_new(&host->platform, 1), 0);
}

static void host_deinit(struct host *host)
{
    platform_free(host->platform);
    machine_deinit(&host->machine);
}

/* The VMs' loads come and go; the disks are the second one's. */
static void use(struct host *host)
{
    struct metered_machine *metered = &host->metered;
    double dynamic = metered->rapl - IDLE_WATTS, busy;

    if (host->parts[0] <= 0 || random_uniform(&metered->random, 0, 1) < 0.02)
        host->parts[0] = random_uniform(&metered->random, 0.1, 0.8);
    host->parts[1] = 0.9 - host->parts[0];
    busy = dynamic / (metered->rapl_max - IDLE_WATTS) * CORES * (double)NSEC_PER_SEC;
    for (unsigned i = 0; i < VMS; i++) {
        struct usage_socket *socket = &machine_amount(&host->machine, i)->sockets[0];

        socket->cpu_ns = (uint64_t)(busy * host->parts[i]);
        /* Memory goes by residency. */
        socket->memory_bytes = (uint64_t)(1e9 * host->parts[i]);
        host->true_joules[i] += metered->slope * dynamic * host->parts[i];
    }
    host->machine.usage.host.sockets[0].cpu_ns = (uint64_t)(busy * 0.1);
    host->machine.usage.host.sockets[0].memory_bytes = (uint64_t)(1e9 * 0.1);
    host->true_host_joules += metered->slope * dynamic * 0.1;
    machine_amount(&host->machine, 1)->io_bytes = (uint64_t)metered->io;
    host->true_joules[1] += metered->io_joules_per_byte * metered->io;
}

static void measure(struct host *host)
{
    const double joules[] = {
        [PACKAGE] = host->metered.rapl * (1 - DRAM_PART),
        [DRAM] = host->metered.rapl * DRAM_PART,
        [RAPL_PSYS] = metered_machine_watts(&host->metered),
    };

    host->machine.sample = (struct sample){0};
    for (size_t slot = PACKAGE; slot < host->machine.zones.n && slot < ELEMENTS(joules); slot++)
        machine_measure(&host->machine, slot, (uint64_t)(joules[slot] * 1e6));
}

static void advance_platform(struct host *host)
{
    const struct platform_zone_input input = {
        .zones = &host->machine.zones,
        .usage = &host->machine.usage,
        .readings = &host->reading,
        .static_powers = host->machine.static_powers,
        .duration_ns = NSEC_PER_SEC,
    };
    struct platform_zone_result result;

    host->known = platform_zone_advance(host->platform, &input, &host->machine.sample, &result);
    if (!host->known)
        return;
    host->machine.static_powers[PLATFORM] = result.static_power;
    if (host->store.is_power)
        ledger_set_platform(host->machine.ledger, PLATFORM, result.io_pj_per_byte);
}

static void tick(struct host *host)
{
    double shown = metered_machine_step(&host->metered);

    use(host);
    measure(host);
    machine_advance(&host->machine);
    if (host->metered.time_s % POLL_S == 0 && host->metered.time_s > 60)
        host->reading = (struct platform_reading){.time_ns = host->machine.time_ns,
                                                  .power_uw = (uint64_t)(shown * 1e6),
                                                  .resolution_uw = 1000000};
    advance_platform(host);
    machine_record(&host->machine);
    platform_store_keep(&host->store, host->platform);
}

static struct snapshot *take_snapshot(struct host *host)
{
    struct snapshot *snapshot = machine_snapshot(&host->machine);

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
        host.metered.delay_s = meters[m].delay_s;
        host.metered.update_s = meters[m].update_s;
        host.metered.io_max = 1e9;
        host.metered.io_joules_per_byte = 2e-8;
        run_minutes(&host, 60);
        before = take_snapshot(&host);
        run_minutes(&host, 10);
        after = take_snapshot(&host);
        assert_string_equal(after->zones[0].zone.name, "platform");
        assert_string_equal(after->zones[0].zone.source, "modelled");
        assert_string_equal(after->zones[1].zone.source, "rapl");
        assert_int_equal(after->zones[0].zone.kind, ZONE_PSYS);
        assert_true(after->vms[0].tree_zones & 1u << TREE_PSYS);
        assert_int_equal(host.machine.static_powers[PLATFORM].origin, STATIC_FROM_LOAD);
        assert_int_equal(host.machine.static_powers[PLATFORM].state, STATIC_LEARNED);
        assert_float_equal((double)host.machine.static_powers[PLATFORM].power_uw / 1e6,
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
    host.machine.zones.zones[host.machine.zones.n++] =
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
    host.metered.static_watts *= 1.5;
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
