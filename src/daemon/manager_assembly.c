/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/manager_internal.h"
#include "daemon/meters.h"
#include "source/rapl.h"
#include "usage/bpf.h"
#include "usage/bpf_handover.h"
#include "usage/procfs.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/paths.h"

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

_Static_assert(METERS_MAX <= PLATFORM_METERS_MAX, "the platform takes every meter");

static int new_meters(struct manager *manager)
{
    int r = meters_new(&manager->config, manager->event, manager->meters);

    if (r < 0)
        return r;
    manager->n_meters = (size_t)r;
    return 0;
}

/* The platform's zone comes with the first meter. */
static int new_platform(struct manager *manager)
{
    int r = manager->n_meters ? platform_new(&manager->platform, manager->n_meters) : 0;

    if (r < 0)
        return r;
    manager_update_zones(manager);
    manager_restore_platform(manager);
    return 0;
}

/* A calibration of another machine, or a misspelt zone. */
static void check_static_powers(const struct manager *manager)
{
    const struct config *config = &manager->config;
    const struct zone_set *zones = &manager->zones;

    for (size_t i = 0; i < config->n_static_powers; i++) {
        const struct static_power_setting *setting = &config->static_powers[i];
        size_t slot = 0;

        while (slot < zones->n && strcmp(zones->zones[slot].name, setting->zone) != 0)
            slot++;
        if (slot == zones->n && setting->static_power.origin == STATIC_CALIBRATED)
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

static int new_static_powers(struct manager *manager)
{
    const struct config *config = &manager->config;
    struct static_power others = config->other_static_powers;

    /* An estimate is made of a static power and the rest. */
    if (manager->source->ops->estimate)
        others = (struct static_power){.origin = STATIC_CONFIGURED,
                                       .power_uw = config->estimate.idle_uw};
    check_static_powers(manager);
    return static_powers_new(&manager->static_powers, config->static_powers,
                             config->n_static_powers, others);
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

    return r < 0 ? r : manager_publish(manager);
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
    snprintf(socket, sizeof(socket), "%s/" CONTROL_SOCKET_NAME, config->runtime_dir);
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
    int r = manager_refresh_vms(manager, now_ns());

    if (r == 0)
        r = manager_publish(manager);
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
    bpf_handover_forget();
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

static int resume_static_powers(struct manager *manager)
{
    const struct zone_set *zones = &manager->zones;
    int r = static_powers_add_zones(manager->static_powers, zones);

    /* The platform's own is learned with it. */
    for (size_t slot = manager_first_slot(manager); slot < zones->n && r == 0; slot++) {
        struct static_power learned = ledger_get_learned(
            manager->ledger, manager->source->ops->name, zones->zones[slot].name);

        static_powers_resume(manager->static_powers, slot, &learned);
    }
    return r;
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
        r = ledger_store_load(manager->store, manager->ledger, source->ops->name, &manager->zones,
                              now_ns(), &sampler, &manager->sample.time_ns);
    if (r < 0) {
        log_error("the ledger cannot be kept", F_ERROR(r));
        return r;
    }
    /* An estimate counts from zero in every process. */
    if (!source->ops->estimate)
        manager->sampler = sampler;
    return resume_static_powers(manager);
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
    platform_free(manager->platform);
    static_powers_free(manager->static_powers);
    attribution_model_free(manager->model);
    usage_provider_free(manager->usage);
    usage_store_free(manager->usage_store);
    vm_table_deinit(&manager->vms);
    discovery_free(manager->discovery);
    energy_source_free(manager->source);
    for (size_t i = 0; i < manager->n_meters; i++)
        meter_free(manager->meters[i]);
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
        new_event,  new_source,   new_meters,   new_platform,  new_static_powers,
        new_ledger, new_control,  load_ledger,  new_discovery, new_powercapfs,
        new_usage,  manager_tick, new_exporter,
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
