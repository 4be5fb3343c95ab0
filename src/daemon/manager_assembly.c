/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/manager_internal.h"
#include "source/sources.h"
#include "usage/providers.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/paths.h"

static int new_source(struct manager *manager)
{
    const struct config *config = &manager->config;
    const struct energy_source_options options = {
        .name = config->energy,
        .sysfs_root = config->sysfs_root,
        .proc_root = config->proc_root,
        .estimate = config->estimate,
    };

    return energy_source_open(&manager->source, &options);
}

_Static_assert(METERS_MAX <= PLATFORM_METERS_MAX,
               "PLATFORM_METERS_MAX must have room for a meter of each kind in METER_KINDS");

static int new_meters(struct manager *manager)
{
    const struct meter_host host = {
        .event = manager->event,
        .sysfs_root = manager->config.sysfs_root,
    };
    int r = meters_new(&manager->config.meters, &host, manager->meters);

    if (r < 0)
        return r;
    manager->n_meters = (size_t)r;
    return 0;
}

static int new_platform(struct manager *manager)
{
    struct platform_store *store = &manager->platform.store;
    int r = manager->n_meters ? platform_new(&manager->platform.model, manager->n_meters) : 0;

    if (r < 0)
        return r;
    *store = (struct platform_store){
        .runtime_dir = manager->config.runtime_dir,
        .is_power = !manager->source->ops->estimate,
        .n = manager->n_meters,
    };
    for (size_t i = 0; i < manager->n_meters; i++)
        store->meters[i] = manager->meters[i]->ops->name;
    platform_store_restore(store, manager->platform.model);
    manager_update_zones(manager);
    return 0;
}

/* Warns of settings that no zone has: a calibration of another machine, or a misspelt zone. */
static int check_static_powers(struct manager *manager)
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
    return 0;
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
    int r;

    /* An estimate is the sum of a static power and the load's. */
    if (manager->source->ops->estimate)
        others = (struct static_power){.origin = STATIC_CONFIGURED,
                                       .power_uw = config->estimate.idle_uw};
    r = static_powers_new(&manager->static_powers, config->static_powers, config->n_static_powers,
                          others, manager->model->ops->by_cycles);
    if (r == 0)
        r = static_powers_add_zones(manager->static_powers, &manager->zones);
    /* The platform learns its own, and sets it. */
    if (r == 0 && manager->platform.model)
        static_powers_set(manager->static_powers, PLATFORM_SLOT, &(struct static_power){0});
    return r;
}

static int new_ledger(struct manager *manager)
{
    struct ledger_config config = {
        .static_policy = manager->config.static_policy,
        .publish_psys = manager->config.publish_psys,
        .interval_ns = manager->config.interval_ns,
        .quantum_uj = manager->config.quantum_uj,
        .model = manager->model,
    };

    snprintf(config.source, sizeof(config.source), "%s", manager->source->ops->name);
    return ledger_new(&manager->ledger, &config);
}

static int new_board(struct manager *manager)
{
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

/* A VM is about to start: its virtiofsd opens the tree before there is a QEMU to be discovered. */
static int prepare_vm(void *userdata, const uuid_t uuid)
{
    struct manager *manager = userdata;
    int r = ledger_prepare_vm(manager->ledger, uuid, now_ns());

    return r < 0 ? r : manager_publish(manager);
}

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

/* The trees of all VMs are for the group of those who may ask the daemon, unless another is set. */
static gid_t top_gid(const struct config *config)
{
    const struct group *group = config->file_gid ? NULL : getgrnam(CONTROL_GROUP);

    return group ? group->gr_gid : config->file_gid;
}

static struct powercapfs_config powercapfs_config(const struct config *config)
{
    return (struct powercapfs_config){
        .mountpoint = config->mountpoint,
        .file_mode = config->file_mode,
        .file_uid = config->file_uid,
        .file_gid = config->file_gid,
        .top_gid = top_gid(config),
        .quantum_uj = config->quantum_uj,
        .version = VIRTJOULE_VERSION,
        .sysfs_root = config->sysfs_root,
    };
}

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
    return exporter_new(&manager->exporter, config->listen, config->metrics_users,
                        VIRTJOULE_VERSION, manager->board);
}

static int new_usage(struct manager *manager)
{
    struct usage_provider_options options = {
        .name = manager->config.provider,
        .proc_root = manager->config.proc_root,
        .sysfs_root = manager->config.sysfs_root,
        .former = {.time_ns = manager->sample.time_ns, .descriptors = &manager->descriptors},
    };
    int r = usage_store_new(&manager->usage_store, manager->config.runtime_dir);

    if (r < 0)
        return r;
    usage_store_load(manager->usage_store, options.former.time_ns, &options.former);
    r = usage_provider_open(&manager->usage, &options);
    if (r < 0)
        return r;
    if (manager->usage->continues)
        log_info("usage is counted on from the former daemon's last interval",
                 F_UINT("milliseconds_ago", (now_ns() - options.former.time_ns) / NSEC_PER_MSEC));
    else
        /* If usage counting resumes at the ledger's last interval, the energy of the downtime can
           be attributed; else the downtime is a gap. */
        for (size_t slot = 0; slot < ZONES_MAX; slot++)
            manager->sampler.gap[slot] = true;
    return 0;
}

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
    return 0;
}

static int resume_static_powers(struct manager *manager)
{
    const struct zone_set *zones = &manager->zones;

    for (size_t slot = manager_first_slot(manager); slot < zones->n; slot++) {
        struct static_power learned = ledger_get_learned(
            manager->ledger, manager->source->ops->name, zones->zones[slot].name);

        static_powers_resume(manager->static_powers, slot, &learned);
    }
    return 0;
}

/* A failure is no reason to end: most hosts need less than the usual limit. */
static int raise_file_limit(struct manager *manager)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return 0;
}

static int take_descriptors(struct manager *manager)
{
    return descriptors_take(&manager->descriptors);
}

static int close_descriptors(struct manager *manager)
{
    descriptors_deinit(&manager->descriptors);
    return 0;
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
    sd_event_source_disable_unref(manager->tick.timer);
    exporter_free(manager->exporter);
    powercapfs_free(manager->powercapfs);
    control_free(manager->control);
    snapshot_board_free(manager->board);
    ledger_store_free(manager->store);
    ledger_free(manager->ledger);
    platform_free(manager->platform.model);
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

/* In this order. Guests wait for powercapfs, so slow steps follow it. */
static int (*const steps[])(struct manager *) = {
    raise_file_limit,     /* before any descriptor is opened: a VM needs a few for each process */
    take_descriptors,     /* before other steps open descriptors, or look for those handed over */
    new_event,            /* blocks signals: before the first thread */
    new_source,           /* the model of the platform depends on it */
    new_meters,           /* need the event loop */
    new_platform,         /* one meter makes a zone: slots are fixed from here on */
    check_static_powers,  /* needs the zones' names */
    new_model,            /* nothing but the configuration */
    new_static_powers,    /* needs model and zones; the platform takes over its slot */
    new_ledger,           /* needs the model, and the source's name */
    new_board,            /* before its readers: control, powercapfs, exporter */
    new_control,          /* fails if another daemon has the socket, and so writes the ledger */
    load_ledger,          /* the control socket is ours: no other daemon writes this ledger */
    resume_static_powers, /* needs the ledger's learned ones */
    new_discovery,        /* before VMs are listed, which the next step does */
    new_powercapfs,       /* needs the former daemon's totals: it shows them to waiting guests */
    new_usage,            /* slow; needs the time of the ledger's last interval */
    manager_tick,         /* the first readings begin the first interval */
    new_exporter,         /* last: scrapers see the daemon's first tick */
    close_descriptors,    /* every step has taken its own */
};

int manager_new(struct manager **ret, const struct config *config)
{
    _cleanup_(cleanup_manager_free) struct manager *manager = calloc(1, sizeof(*manager));

    if (!manager)
        return -ENOMEM;
    manager->config = *config;
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        int r = steps[i](manager);

        if (r < 0)
            return r;
    }
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
