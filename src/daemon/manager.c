/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/manager.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "attribution/baselines.h"
#include "attribution/ledger.h"
#include "attribution/ledger_carry.h"
#include "attribution/ledger_store.h"
#include "attribution/snapshot.h"
#include "daemon/usage_store.h"
#include "discovery/discovery.h"
#include "publish/control.h"
#include "publish/exporter.h"
#include "publish/powercapfs.h"
#include "source/energy_source.h"
#include "source/rapl.h"
#include "source/sample.h"
#include "usage/bpf.h"
#include "usage/bpf_store.h"
#include "usage/procfs.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/descriptors.h"
#include "util/file.h"
#include "util/log.h"

struct manager {
    struct config config;
    struct descriptors descriptors; /* while the objects are made */
    sd_event *event;

    struct energy_source *source;
    struct sampler sampler;
    struct sample sample; /* the last one recorded */
    struct discovery *discovery;
    struct vm_table vms;
    struct usage_provider *usage;
    struct usage_store *usage_store;
    bool changes_lost; /* discovery could not take in what usage told of processes */
    struct attribution_model *model;
    struct ledger *ledger;
    struct baselines *baselines;
    struct ledger_store *store;
    struct snapshot_board *board;
    struct powercapfs *powercapfs;
    struct exporter *exporter;
    struct control *control;

    sd_event_source *timer;
    int tick_error;     /* of the last tick, as logged; 0: it went well */
    uint64_t tick_usec; /* CLOCK_MONOTONIC at which the current tick was due */
    struct snapshot_health health;
};

/* The tick. */

/* From the next interval on: what has been entered stays. */
static void update_baselines(struct manager *manager, const struct usage *usage)
{
    int r = baselines_update(manager->baselines, &manager->source->zones, &manager->sample, usage);

    if (r < 0)
        log_error("static powers could not be learned in this interval", F_ERROR(r));
}

static int enter_baselines(struct manager *manager)
{
    const struct zone_set *zones = &manager->source->zones;
    int r = baselines_add_zones(manager->baselines, zones);

    for (size_t slot = 0; slot < zones->n && r == 0; slot++)
        ledger_set_baseline(manager->ledger, slot,
                            baselines_get(manager->baselines, slot)->power_uw);
    return r;
}

static int refresh_vms(struct manager *manager, uint64_t time_ns)
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

static int publish(struct manager *manager)
{
    struct snapshot *snapshot;
    int r = ledger_snapshot(manager->ledger, &manager->source->zones, &manager->sample, now_ns(),
                            &snapshot);

    if (r < 0)
        return r;
    snapshot->source = manager->source->ops->name;
    snapshot->estimate = manager->source->ops->estimate;
    snapshot->usage_provider = manager->usage ? manager->usage->ops->name : "none";
    snapshot->health = manager->health;
    for (size_t slot = 0; slot < snapshot->n_zones; slot++)
        snapshot->zones[slot].baseline = *baselines_get(manager->baselines, slot);
    for (size_t i = 0; i < snapshot->n_vms; i++)
        snapshot->vms[i].tree_reads = powercapfs_reads(manager->powercapfs, snapshot->vms[i].id);
    /* Nothing is seen that a later daemon would not know. */
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

/* What it takes to answer a VM's readers is the VM's own use. */
static void charge_readers(struct manager *manager, struct usage *usage)
{
    const struct snapshot *snapshot = snapshot_board_acquire(manager->board);

    for (size_t i = 0; snapshot && i < snapshot->n_vms; i++) {
        uint64_t cpu_ns[SOCKETS_MAX];

        powercapfs_take_cpu(manager->powercapfs, snapshot->vms[i].id, cpu_ns);
        usage_charge(usage, snapshot->vms[i].uuid, cpu_ns);
    }
    snapshot_board_release(manager->board, snapshot);
}

/* VMs take their totals with them when they are saved or migrated. */
static int carry_energies(struct manager *manager)
{
    _cleanup_free_ struct vm_leave *leaves = NULL;
    size_t n;
    int r = ledger_list_leaves(manager->ledger, now_ns(), &leaves, &n);

    if (r < 0)
        return r;
    discovery_carry(manager->discovery, leaves, n);
    ledger_set_ceilings(manager->ledger, leaves, n);
    return 0;
}

static int tick(struct manager *manager)
{
    struct reading readings[ZONES_MAX] = {0};
    struct sampler sampler = manager->sampler;
    struct usage usage = {0};
    uint64_t time_ns = now_ns();
    int r;

    manager->source->ops->read(manager->source, readings);
    sampler.suspended_ns = clock_suspended_ns();
    sampler_take(&sampler, &manager->source->zones, readings, time_ns, &manager->sample);
    r = refresh_vms(manager, time_ns);
    if (r < 0)
        return r;
    r = manager->usage->ops->sample(manager->usage, &manager->vms, &usage);
    if (r < 0)
        return r;
    charge_readers(manager, &usage);
    manager->health.unlisted_processes = usage.n_unlisted;
    r = enter_baselines(manager);
    if (r == 0)
        r = ledger_record(manager->ledger, &manager->source->zones, &manager->sample, &usage);
    if (r == 0)
        update_baselines(manager, &usage);
    usage_deinit(&usage);
    if (r < 0)
        return r;
    /* Only now has the energy been entered: after a failure the next interval covers it. */
    manager->sampler = sampler;
    usage_store_save(manager->usage_store, manager->usage, time_ns);
    ledger_expire(manager->ledger, time_ns, forget_vm, manager);
    r = carry_energies(manager);
    return r < 0 ? r : publish(manager);
}

/* The event loop. */

static void count_tick(struct manager *manager, uint64_t duration_ns)
{
    size_t bucket = 0;

    while (bucket < TICK_BUCKETS &&
           (double)duration_ns / (double)NSEC_PER_SEC > tick_bucket_seconds[bucket])
        bucket++;
    manager->health.ticks++;
    manager->health.tick_buckets[bucket]++;
    manager->health.tick_ns_sum += duration_ns;
}

static void note_tick(struct manager *manager, int error)
{
    if (error && error != manager->tick_error)
        log_error("an interval could not be recorded, the next one covers it", F_ERROR(error));
    else if (!error && manager->tick_error)
        log_info("intervals are recorded again");
    manager->tick_error = error;
}

static int on_timer(sd_event_source *source, uint64_t due_usec, void *userdata)
{
    struct manager *manager = userdata;
    uint64_t interval_usec = manager->config.interval_ns / NSEC_PER_USEC;
    uint64_t start_ns = now_ns();
    uint64_t missed = (start_ns / NSEC_PER_USEC - due_usec) / interval_usec;
    int r = tick(manager);

    note_tick(manager, r);
    powercapfs_keep_mounted(manager->powercapfs);
    if (missed)
        log_warning("ticks were missed", F_UINT("missed", missed));
    manager->health.ticks_missed += missed;
    count_tick(manager, now_ns() - start_ns);
    sd_notifyf(false, "STATUS=%zu VMs known, energy from %s, %" PRIu64 " ticks missed",
               manager->vms.n, manager->source->ops->name, manager->health.ticks_missed);
    manager->tick_usec = due_usec + (missed + 1) * interval_usec;
    r = sd_event_source_set_time(source, manager->tick_usec);
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
    int r = refresh_vms(manager, now_ns());

    if (r == 0)
        r = publish(manager);
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
    /* From here on it lives as long as the loop. */
    return sd_event_source_set_floating(source, true);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    log_warning("SIGHUP has no effect: the configuration is read at the start");
    return 0;
}

/* @param handler  NULL: the loop ends */
static int watch_signal(struct manager *manager, int number, sd_event_signal_handler_t handler)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return sd_event_add_signal(manager->event, NULL, number, handler, NULL);
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
        /* An ended process can be read until its parent has reaped it: at once. */
        r = watch_fd(manager, usage->ops->event_fd(usage), on_usage_event,
                     SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0)
            return r;
    }
    r = watch_fd(manager, discovery_event_fd(manager->discovery), on_discovery_event,
                 SD_EVENT_PRIORITY_NORMAL);
    if (r < 0)
        return r;
    manager->tick_usec = (now_ns() + manager->config.interval_ns) / NSEC_PER_USEC;
    /* To the microsecond: ramps run for one interval, and a late tick makes them pause. */
    return sd_event_add_time(manager->event, &manager->timer, CLOCK_MONOTONIC, manager->tick_usec,
                             1, on_timer, manager);
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

/* The assembly. */

static int new_source(struct manager *manager)
{
    const struct config *config = &manager->config;
    int r;

    if (config->energy != CONFIG_ENERGY_ESTIMATE) {
        r = rapl_new(&manager->source, config->sysfs_root);
        if (r == 0)
            return 0;
        if (config->energy == CONFIG_ENERGY_RAPL) {
            log_error("no RAPL zone can be read", F_STRING("sysfs_root", config->sysfs_root),
                      F_ERROR(r));
            return r;
        }
        log_warning("no RAPL zone can be read: all energy is an ESTIMATE from CPU utilisation, "
                    "not a measurement",
                    F_STRING("sysfs_root", config->sysfs_root), F_ERROR(r),
                    F_UINT("idle_mw", config->estimate.idle_uw / 1000),
                    F_UINT("max_mw", config->estimate.max_uw / 1000));
    }
    return estimate_new(&manager->source, &config->estimate, config->proc_root);
}

/* A calibration of another machine, or a misspelt zone. */
static void check_baselines(const struct manager *manager)
{
    const struct config *config = &manager->config;
    const struct zone_set *zones = &manager->source->zones;

    for (size_t i = 0; i < config->n_baselines; i++) {
        const struct baseline_setting *setting = &config->baselines[i];
        size_t slot = 0;

        while (slot < zones->n && strcmp(zones->zones[slot].name, setting->zone) != 0)
            slot++;
        if (slot == zones->n && setting->baseline.origin == BASELINE_CALIBRATED)
            log_warning("the baseline file has a zone that this host does not have: was it "
                        "calibrated on another machine?",
                        F_STRING("file", config->baseline_file), F_STRING("zone", setting->zone));
        else if (slot == zones->n)
            log_warning("baseline of a zone that this host does not have",
                        F_STRING("zone", setting->zone));
    }
}

static int new_model(struct manager *manager)
{
    return attribution_model_open(manager->config.model, &manager->config.model_options,
                                  &manager->model);
}

static int new_baselines(struct manager *manager)
{
    const struct config *config = &manager->config;
    struct zone_baseline others = config->other_baselines;

    /* An estimate is made of a static power and the rest. */
    if (manager->source->ops->estimate)
        others = (struct zone_baseline){.origin = BASELINE_CONFIGURED,
                                        .power_uw = config->estimate.idle_uw};
    check_baselines(manager);
    return baselines_new(&manager->baselines, config->baselines, config->n_baselines, others);
}

static int new_ledger(struct manager *manager)
{
    struct ledger_config config = {
        .static_policy = manager->config.static_policy,
        .publish_psys = manager->config.publish_psys,
        .interval_ns = manager->config.interval_ns,
    };
    int r = new_model(manager);

    if (r < 0)
        return r;
    config.model = manager->model;
    snprintf(config.source, sizeof(config.source), "%s", manager->source->ops->name);
    r = ledger_new(&manager->ledger, &config);
    if (r < 0)
        return r;
    return snapshot_board_new(&manager->board);
}

static int new_discovery(struct manager *manager)
{
    const struct discovery_config config = {
        .libvirt_uri = manager->config.libvirt_uri,
        .procfs = manager->config.procfs,
        .proc_root = manager->config.proc_root,
    };

    return discovery_new(&config, &manager->discovery);
}

/* A VM that is about to start: its virtiofsd opens the tree before QEMU is there to be seen. */
static int prepare_vm(void *userdata, const uuid_t uuid)
{
    struct manager *manager = userdata;
    int r = ledger_prepare_vm(manager->ledger, uuid, now_ns());

    return r < 0 ? r : publish(manager);
}

/* It tells whether another daemon is at work here. */
static int new_control(struct manager *manager)
{
    const struct config *config = &manager->config;
    const struct control_actions actions = {.prepare = prepare_vm, .userdata = manager};
    char socket[CONFIG_PATH_MAX + 16];
    int r;

    r = make_directories(config->runtime_dir, 0755);
    if (r < 0) {
        log_error("no runtime directory", F_STRING("path", config->runtime_dir), F_ERROR(r));
        return r;
    }
    snprintf(socket, sizeof(socket), "%s/control.sock", config->runtime_dir);
    return control_new(&manager->control, manager->event, socket, config->mountpoint,
                       manager->board, &manager->descriptors, &actions);
}

static struct powercapfs_config powercapfs_config(const struct config *config)
{
    return (struct powercapfs_config){
        .mountpoint = config->mountpoint,
        .file_mode = config->file_mode,
        .file_uid = config->file_uid,
        .file_gid = config->file_gid,
        .quantum_uj = config->quantum_uj,
        .version = VIRTJOULE_VERSION,
        .sysfs_root = config->sysfs_root,
    };
}

/*
 * As soon as the former daemon's totals can be shown: guests may be waiting for
 * an answer. The first interval comes later.
 */
static int new_powercapfs(struct manager *manager)
{
    const struct powercapfs_config powercapfs = powercapfs_config(&manager->config);
    int r = refresh_vms(manager, now_ns());

    if (r == 0)
        r = publish(manager);
    return r < 0 ? r
                 : powercapfs_new(&manager->powercapfs, &powercapfs, manager->board,
                                  &manager->descriptors);
}

static int new_exporter(struct manager *manager)
{
    const struct config *config = &manager->config;

    if (config->listen[0] == '\0')
        return 0;
    return exporter_new(&manager->exporter, config->listen, VIRTJOULE_VERSION, manager->board);
}

static const char *no_ebpf_reason(int error)
{
    switch (-error) {
    case EXDEV:
        return "the daemon is in a PID namespace of its own";
    case EOPNOTSUPP:
        return "proc_root is not the running kernel's";
    case EPERM:
    case EACCES:
        return "no permission: it takes CAP_BPF and CAP_PERFMON";
    case ENOENT:
    case ESRCH:
        return "the kernel lacks what it takes: Linux 5.11 or later, with BTF";
    default:
        return log_errno_text(error);
    }
}

static int new_provider(struct manager *manager, const struct usage_former *former)
{
    const struct config *config = &manager->config;
    const struct bpf_usage_config bpf = {
        .sysfs_root = config->sysfs_root,
        .processes_max = BPF_USAGE_PROCESSES_MAX,
        .counters = bpf_usage_counters,
        .former = *former,
    };
    int r;

    if (config->provider != CONFIG_PROVIDER_PROCFS) {
        /* The running kernel knows nothing of another /proc. */
        r = strcmp(config->proc_root, "/proc") == 0 ? bpf_usage_new(&manager->usage, &bpf)
                                                    : -EOPNOTSUPP;
        if (r == 0)
            return 0;
        if (config->provider == CONFIG_PROVIDER_BPF) {
            log_error("eBPF cannot be used", F_STRING("reason", no_ebpf_reason(r)));
            return r;
        }
        log_warning("eBPF cannot be used, usage is read from /proc: less exact on several sockets "
                    "and for VMs that come and go",
                    F_STRING("reason", no_ebpf_reason(r)));
    }
    bpf_store_forget();
    return procfs_usage_new(&manager->usage, config->proc_root, config->sysfs_root, former);
}

/* Whose the energy of the time without a daemon was is known if usage begins where it does. */
static int new_usage(struct manager *manager)
{
    struct usage_former former = {
        .time_ns = manager->sample.time_ns,
        .descriptors = &manager->descriptors,
    };
    int r = usage_store_new(&manager->usage_store, manager->config.runtime_dir);

    if (r < 0)
        return r;
    usage_store_load(manager->usage_store, former.time_ns, &former);
    r = new_provider(manager, &former);
    if (r < 0)
        return r;
    if (manager->usage->continues)
        log_info("usage is counted on from the former daemon's last interval",
                 F_UINT("milliseconds_ago", (now_ns() - former.time_ns) / NSEC_PER_MSEC));
    else
        for (size_t slot = 0; slot < ZONES_MAX; slot++)
            manager->sampler.gap[slot] = true;
    return 0;
}

/* Only now is it sure that no other daemon keeps its ledger there. */
static int load_ledger(struct manager *manager)
{
    const struct energy_source *source = manager->source;
    const struct ledger_store_config config = {
        .runtime_dir = manager->config.runtime_dir,
        .state_dir = manager->config.state_dir,
        .identity = ledger_identity_now(),
    };
    struct sampler sampler = {0};
    int r = ledger_store_new(&manager->store, &config);

    if (r == 0)
        r = ledger_store_load(manager->store, manager->ledger, source->ops->name, &source->zones,
                              now_ns(), &sampler, &manager->sample.time_ns);
    if (r < 0) {
        log_error("the ledger cannot be kept", F_ERROR(r));
        return r;
    }
    /* An estimate counts from zero in every process. */
    if (!source->ops->estimate)
        manager->sampler = sampler;
    return 0;
}

/* A VM needs a few descriptors for each of its processes. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int new_event(struct manager *manager)
{
    int r = sd_event_new(&manager->event);

    if (r < 0)
        return r;
    r = watch_signal(manager, SIGTERM, NULL);
    if (r < 0)
        return r;
    r = watch_signal(manager, SIGINT, NULL);
    if (r < 0)
        return r;
    r = watch_signal(manager, SIGHUP, on_hangup);
    if (r < 0)
        return r;
    return sd_event_set_watchdog(manager->event, true);
}

struct manager *manager_free(struct manager *manager)
{
    if (!manager)
        return NULL;
    sd_event_source_disable_unref(manager->timer);
    exporter_free(manager->exporter);
    powercapfs_free(manager->powercapfs);
    control_free(manager->control);
    snapshot_board_free(manager->board);
    ledger_store_free(manager->store);
    ledger_free(manager->ledger);
    baselines_free(manager->baselines);
    attribution_model_free(manager->model);
    usage_provider_free(manager->usage);
    usage_store_free(manager->usage_store);
    vm_table_deinit(&manager->vms);
    discovery_free(manager->discovery);
    energy_source_free(manager->source);
    descriptors_deinit(&manager->descriptors);
    sd_event_unref(manager->event);
    free(manager);
    return NULL;
}
DEFINE_CLEANUP(struct manager *, manager_free);

int manager_new(struct manager **ret, const struct config *config)
{
    /* What is slow comes after powercapfs. The first tick's readings begin the first interval. */
    static int (*const steps[])(struct manager *) = {
        new_event,     new_source,     new_baselines, new_ledger, new_control,  load_ledger,
        new_discovery, new_powercapfs, new_usage,     tick,       new_exporter,
    };
    _cleanup_(cleanup_manager_free) struct manager *manager = calloc(1, sizeof(*manager));
    int r;

    if (!manager)
        return -ENOMEM;
    raise_file_limit();
    manager->config = *config;
    r = descriptors_take(&manager->descriptors);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        r = steps[i](manager);
        if (r < 0)
            return r;
    }
    descriptors_deinit(&manager->descriptors);
    *ret = TAKE_PTR(manager);
    return 0;
}

DEFINE_CLEANUP(struct snapshot_board *, snapshot_board_free);

int manager_mount(const struct config *config)
{
    const struct powercapfs_config powercapfs = powercapfs_config(config);
    _cleanup_(cleanup_snapshot_board_free) struct snapshot_board *board = NULL;
    int r = snapshot_board_new(&board);

    return r < 0 ? r : powercapfs_mount(&powercapfs, board);
}
