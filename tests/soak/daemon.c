/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon.h"

#include "../lib/require.h"
#include "util/clock.h"

#define SOURCE "rapl"

size_t daemon_slot(const struct soak_daemon *daemon, size_t zone)
{
    size_t slot = 0;

    while (slot < daemon->zones.n && daemon->zone_of_slot[slot] != zone)
        slot++;
    return slot;
}

/* The slots keep their zones; after a start they may come in another order. */
static void find_zones(struct soak_daemon *daemon, struct host *host)
{
    size_t first = random_next(&host->random) % HOST_ZONES;

    for (size_t i = 0; i < HOST_ZONES; i++) {
        size_t zone = (first + i) % HOST_ZONES;

        if (!host_zone_is_there(host, zone) || daemon_slot(daemon, zone) < daemon->zones.n)
            continue;
        daemon->zone_of_slot[daemon->zones.n] = zone;
        daemon->zones.zones[daemon->zones.n++] = host->zones[zone].zone;
    }
}

static void refresh_vms(struct soak_daemon *daemon, struct host *host, bool changed)
{
    if (changed) {
        vm_table_deinit(&daemon->vms);
        host_discover(host, &daemon->vms);
    }
    require(ledger_update_vms(daemon->ledger, &daemon->vms, host->time_ns) == 0);
}

static void publish(struct soak_daemon *daemon, struct host *host)
{
    struct snapshot *snapshot;

    require(ledger_snapshot(daemon->ledger, &daemon->zones, &daemon->sample, host->time_ns,
                            &snapshot) == 0);
    snapshot->source = SOURCE;
    snapshot->usage_provider = "bpf";
    for (size_t slot = 0; slot < snapshot->n_zones; slot++)
        snapshot->zones[slot].static_power = *static_powers_get(daemon->static_powers, slot);
    for (size_t i = 0; i < snapshot->n_vms; i++)
        snapshot->vms[i].tree_reads =
            open_files_reads(daemon->requests->server.files, snapshot->vms[i].id);
    ledger_store_save(daemon->store, daemon->ledger, &daemon->sampler, daemon->sample.time_ns);
    snapshot_board_post(daemon->board, snapshot);
}

static void new_ledger(struct soak_daemon *daemon)
{
    struct ledger_config config = {
        .source = SOURCE,
        .static_policy = STATIC_EQUAL,
        .publish_psys = true,
        .interval_ns = NSEC_PER_SEC,
    };

    require(cputime_model_new(&MODEL_OPTIONS_DEFAULT, &daemon->model) == 0);
    config.model = daemon->model;
    require(ledger_new(&daemon->ledger, &config) == 0);
}

static void load_ledger(struct soak_daemon *daemon, struct host *host, const char *directory,
                        unsigned boot)
{
    char runtime[4096], state[4096];
    uint64_t time_ns;
    const struct ledger_store_config config = {
        .runtime_dir = runtime,
        .state_dir = state,
        .identity = {.boot = {1, (uint8_t)boot}, .machine = {1}},
    };

    snprintf(runtime, sizeof(runtime), "%s/run", directory);
    snprintf(state, sizeof(state), "%s/state", directory);
    require(ledger_store_new(&daemon->store, &config) == 0);
    require(ledger_store_load(daemon->store, daemon->ledger, SOURCE, &daemon->zones, host->time_ns,
                              &daemon->sampler, &time_ns) == 0);
}

void daemon_start(struct soak_daemon *daemon, struct host *host, const char *directory,
                  unsigned boot)
{
    static const struct static_power_setting settings[] = {
        {"package-0", {.power_uw = 40000000}},
        {"package-1", {.power_uw = 40000000}},
        {"dram", {.power_uw = 5000000}},
        {"dram-1", {.power_uw = 5000000}},
    };
    /* psys: what learning costs is nothing to look at here, and is most of a tick. */
    const struct static_power others = {.origin = STATIC_FROM_LOAD, .state = STATIC_LEARNING};
    const struct powercapfs_config config = {
        .file_mode = 0444, .quantum_uj = 1000, .version = "soak"};

    *daemon = (struct soak_daemon){0};
    find_zones(daemon, host);
    require(static_powers_new(&daemon->static_powers, settings,
                              sizeof(settings) / sizeof(*settings), others, false) == 0);
    new_ledger(daemon);
    require(snapshot_board_new(&daemon->board) == 0);
    load_ledger(daemon, host, directory, boot);
    daemon->requests = fuse_fixture_new(&config, daemon->board);
    refresh_vms(daemon, host, true);
    publish(daemon, host);
}

static void forget(uint32_t id, void *userdata)
{
    struct soak_daemon *daemon = userdata;

    open_files_forget(daemon->requests->server.files, id);
}

void daemon_tick(struct soak_daemon *daemon, struct host *host)
{
    struct reading readings[ZONES_MAX] = {0};
    struct usage usage;

    find_zones(daemon, host);
    for (size_t slot = 0; slot < daemon->zones.n; slot++)
        readings[slot] = host_read(host, daemon->zone_of_slot[slot]);
    sampler_take(&daemon->sampler, &daemon->zones, readings, host->time_ns, &daemon->sample);
    refresh_vms(daemon, host, host->changed);
    host_usage(host, &usage);
    require(ledger_record(daemon->ledger, &daemon->zones, &daemon->sample, &usage,
                          static_powers_by_slot(daemon->static_powers)) == 0);
    require(static_powers_update(daemon->static_powers, &daemon->zones, &daemon->sample, &usage) ==
            0);
    usage_deinit(&usage);
    ledger_expire(daemon->ledger, host->time_ns, forget, daemon);
    publish(daemon, host);
}

void daemon_stop(struct soak_daemon *daemon)
{
    fuse_fixture_free(daemon->requests);
    snapshot_board_free(daemon->board);
    ledger_store_free(daemon->store);
    ledger_free(daemon->ledger);
    static_powers_free(daemon->static_powers);
    attribution_model_free(daemon->model);
    vm_table_deinit(&daemon->vms);
}
