/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <systemd/sd-daemon.h>

#include "daemon/manager_internal.h"
#include "ledger/ledger_migrate.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* The tick. */

int manager_refresh_vms(struct manager *manager, uint64_t time_ns)
{
    struct process_changes changes = {.all = true};
    struct vm_table vms = {0};
    int r;

    if (manager->usage && manager->usage->ops->take_changes)
        manager->usage->ops->take_changes(manager->usage, &changes);
    changes.all |= manager->changes_lost;
    r = discovery_refresh(manager->discovery, &changes, &vms);
    manager->changes_lost = r < 0;
    if (r < 0)
        return r;
    if (r > 0) {
        vm_table_deinit(&manager->vms);
        manager->vms = vms;
    }
    return ledger_update_vms(manager->ledger, &manager->vms, time_ns);
}

int manager_publish(struct manager *manager)
{
    struct snapshot *snapshot;
    int r =
        ledger_snapshot(manager->ledger, &manager->zones, &manager->sample, now_ns(), &snapshot);

    if (r < 0)
        return r;
    snapshot->source = manager->source->ops->name;
    snapshot->estimate = manager->source->ops->estimate;
    snapshot->usage_provider = manager->usage ? manager->usage->ops->name : "none";
    snapshot->health = manager->tick.health;
    for (size_t slot = 0; slot < snapshot->n_zones; slot++)
        snapshot->zones[slot].static_power = *static_powers_get(manager->static_powers, slot);
    manager_show_platform(manager, snapshot);
    for (size_t i = 0; i < snapshot->n_vms; i++)
        snapshot->vms[i].tree_reads = powercapfs_reads(manager->powercapfs, snapshot->vms[i].id);
    /* Save before publishing, so that a restarted daemon never shows less. */
    r = ledger_store_save(manager->store, manager->ledger, &manager->sampler,
                          manager->sample.time_ns);
    if (r < 0)
        snapshot_free(snapshot);
    else
        snapshot_board_post(manager->board, snapshot);
    return r;
}

static void forget_vm(uint32_t id, void *userdata)
{
    powercapfs_forget(((struct manager *)userdata)->powercapfs, id);
}

/* The CPU time that answers to a VM's readers took is charged to the VM. */
static void charge_readers(struct manager *manager, struct usage *usage)
{
    const struct snapshot *snapshot = snapshot_board_acquire(manager->board);

    for (size_t i = 0; snapshot && i < snapshot->n_vms; i++) {
        uint64_t cpu_ns[PACKAGES_MAX];

        powercapfs_take_cpu(manager->powercapfs, snapshot->vms[i].id, cpu_ns);
        usage_charge(usage, snapshot->vms[i].uuid, cpu_ns);
    }
    snapshot_board_release(manager->board, snapshot);
}

/* libvirt keeps the totals of each VM, which go with it when it is saved or migrated. */
static int publish_departures(struct manager *manager)
{
    _cleanup_free_ struct vm_departure *departures = NULL;
    size_t n;
    int r = ledger_list_departures(manager->ledger, now_ns(), &departures, &n);

    if (r < 0)
        return r;
    discovery_publish_energy(manager->discovery, departures, n);
    ledger_set_ceilings(manager->ledger, departures, n);
    return 0;
}

/* What one tick works on. */
struct tick {
    uint64_t time_ns;       /* CLOCK_MONOTONIC */
    struct sampler sampler; /* becomes the manager's once the energy has been entered */
    struct usage usage;
};

/* What each zone used since the last readings: the interval. */
static void measure(struct manager *manager, struct tick *tick)
{
    struct reading readings[ZONES_MAX + 1] = {0};

    manager_update_zones(manager);
    tick->sampler.suspended_before_ns = clock_suspended_ns();
    manager->source->ops->read(manager->source, readings + manager_first_slot(manager));
    tick->sampler.suspended_after_ns = clock_suspended_ns();
    sampler_take(&tick->sampler, &manager->zones, readings, tick->time_ns, &manager->sample);
}

/* Which VMs there are, and what each of them consumed in the interval. */
static int look(struct manager *manager, struct tick *tick)
{
    int r = manager_refresh_vms(manager, tick->time_ns);

    if (r == 0)
        r = manager->usage->ops->sample(manager->usage, &manager->vms, &tick->usage);
    if (r < 0)
        return r;
    charge_readers(manager, &tick->usage);
    manager->tick.health.unlisted_processes = tick->usage.n_unlisted;
    return 0;
}

/* The interval's energy goes into the ledger, divided by the static powers known before it. */
static int enter(struct manager *manager, const struct tick *tick)
{
    int r = static_powers_add_zones(manager->static_powers, &manager->zones);

    if (r < 0)
        return r;
    manager_advance_platform(manager, &tick->usage);
    r = ledger_record(manager->ledger, &manager->zones, &manager->sample, &tick->usage,
                      static_powers_by_slot(manager->static_powers));
    if (r < 0)
        return r;
    manager->sampler = tick->sampler;
    r = static_powers_update(manager->static_powers, &manager->zones, &manager->sample,
                             &tick->usage);
    if (r < 0)
        log_error("static powers could not be learned in this interval", F_ERROR(r));
    return 0;
}

/* All that changed is kept on disk, then published. */
static int show(struct manager *manager, const struct tick *tick)
{
    int r;

    usage_store_save(manager->usage_store, manager->usage, tick->time_ns);
    platform_store_keep(&manager->platform.store, manager->platform.model);
    ledger_expire(manager->ledger, tick->time_ns, forget_vm, manager);
    r = publish_departures(manager);
    return r < 0 ? r : manager_publish(manager);
}

int manager_tick(struct manager *manager)
{
    struct tick tick = {.time_ns = now_ns(), .sampler = manager->sampler};
    int r;

    measure(manager, &tick);
    r = look(manager, &tick);
    if (r == 0)
        r = enter(manager, &tick);
    usage_deinit(&tick.usage);
    return r < 0 ? r : show(manager, &tick);
}

/* The event loop. */

static void count_tick(struct manager *manager, uint64_t duration_ns)
{
    size_t bucket = 0;

    while (bucket < TICK_BUCKETS &&
           (double)duration_ns / (double)NSEC_PER_SEC > tick_bucket_seconds[bucket])
        bucket++;
    manager->tick.health.ticks++;
    manager->tick.health.tick_buckets[bucket]++;
    manager->tick.health.tick_ns_sum += duration_ns;
}

static void note_tick(struct manager *manager, int error)
{
    if (error && error != manager->tick.error)
        log_error("an interval could not be recorded, the next one covers it", F_ERROR(error));
    else if (!error && manager->tick.error)
        log_info("intervals are recorded again");
    manager->tick.error = error;
}

static int on_timer(sd_event_source *source, uint64_t due_usec, void *userdata)
{
    struct manager *manager = userdata;
    uint64_t interval_usec = manager->config.interval_ns / NSEC_PER_USEC;
    uint64_t start_ns = now_ns();
    uint64_t missed = (start_ns / NSEC_PER_USEC - due_usec) / interval_usec;
    int r = manager_tick(manager);

    note_tick(manager, r);
    powercapfs_keep_mounted(manager->powercapfs);
    exporter_keep(manager->exporter);
    if (missed)
        log_warning("ticks were missed", F_UINT("missed", missed));
    manager->tick.health.ticks_missed += missed;
    count_tick(manager, now_ns() - start_ns);
    sd_notifyf(false, "STATUS=%zu VMs known, energy from %s, %" PRIu64 " ticks missed",
               manager->vms.n, manager->source->ops->name, manager->tick.health.ticks_missed);
    manager->tick.due_usec = due_usec + (missed + 1) * interval_usec;
    r = sd_event_source_set_time(source, manager->tick.due_usec);
    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_source_event(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct manager *manager = userdata;

    manager->source->ops->dispatch(manager->source);
    return 0;
}

static int on_usage_event(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct manager *manager = userdata;

    manager->usage->ops->dispatch(manager->usage);
    return 0;
}

/* A domain that was just defined needs its tree before it starts, not at the next tick. */
static int on_discovery_event(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct manager *manager = userdata;
    int r = manager_refresh_vms(manager, now_ns());

    if (r == 0)
        r = manager_publish(manager);
    if (r < 0)
        log_warning("VMs could not be listed, the next tick tries again", F_ERROR(r));
    return 0;
}

DEFINE_CLEANUP(sd_event_source *, sd_event_source_unref);

static int watch_fd(struct manager *manager, int fd, sd_event_io_handler_t handler,
                    int64_t priority)
{
    _cleanup_(cleanup_sd_event_source_unref) sd_event_source *source = NULL;
    int r;

    if (fd < 0)
        return 0;
    r = sd_event_add_io(manager->event, &source, fd, EPOLLIN, handler, manager);
    if (r < 0)
        return r;
    r = sd_event_source_set_priority(source, priority);
    if (r < 0)
        return r;
    /* The loop owns the event source from here on. */
    return sd_event_source_set_floating(source, true);
}

static int start_loop(struct manager *manager)
{
    const struct energy_source *source = manager->source;
    const struct usage_provider *usage = manager->usage;
    int r;

    if (source->ops->event_fd) {
        r = watch_fd(manager, source->ops->event_fd(source), on_source_event,
                     SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
            return r;
    }
    if (usage->ops->event_fd) {
        /* An ended process can be read only until its parent has reaped it: read it at once. */
        r = watch_fd(manager, usage->ops->event_fd(usage), on_usage_event,
                     SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0)
            return r;
    }
    r = watch_fd(manager, discovery_event_fd(manager->discovery), on_discovery_event,
                 SD_EVENT_PRIORITY_NORMAL);
    if (r < 0)
        return r;
    manager->tick.due_usec = (now_ns() + manager->config.interval_ns) / NSEC_PER_USEC;
    /* To the microsecond: ramps run for one interval, and a late tick makes them pause. */
    return sd_event_add_time(manager->event, &manager->tick.timer, CLOCK_MONOTONIC,
                             manager->tick.due_usec, 1, on_timer, manager);
}

int manager_run(struct manager *manager)
{
    int r = start_loop(manager);

    if (r < 0)
        return r;
    sd_notify(false, "READY=1");
    log_info("ready", F_STRING("version", VIRTJOULE_VERSION),
             F_STRING("source", manager->source->ops->name),
             F_STRING("usage", manager->usage->ops->name),
             F_STRING("model", manager->model->ops->name), F_UINT("vms", manager->vms.n),
             F_STRING("mountpoint", manager->config.mountpoint));
    r = sd_event_loop(manager->event);
    sd_notify(false, "STOPPING=1");
    log_info("stopping");
    return r;
}
