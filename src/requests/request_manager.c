/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/request_manager.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "host/mounts.h"
#include "requests/access_log.h"
#include "requests/cgroup_watch.h"
#include "requests/collector.h"
#include "requests/powercap_reader.h"
#include "requests/request_metrics.h"
#include "requests/request_programs.h"
#include "requests/work_price.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/metrics_server.h"

/* The kernel does not wake us when a request is over, and has room for some thousands. Where there
 * are many, they are taken in small portions, since the servers wait for their CPUs meanwhile. */
#define TAKE_INTERVAL_USEC (100 * NSEC_PER_MSEC / NSEC_PER_USEC)
#define TAKE_MANY_INTERVAL_USEC (10 * NSEC_PER_MSEC / NSEC_PER_USEC)
#define MANY_REQUESTS 100
/* A server that starts goes unseen for so long at most. */
#define CHECK_INTERVAL_USEC (NSEC_PER_SEC / NSEC_PER_USEC)

_Static_assert(REQUEST_FACTOR_BITS == WORK_FACTOR_BITS, "the price's factor is the kernel's");
_Static_assert(RECORD_PATH_MAX == HTTP_PATH_MAX, "a record has room for what the kernel keeps");

/* Sums since the start; the kernel's totals wrap. */
struct sums {
    struct request_totals last;
    __uint128_t work, bound_work; /* 2^-10 of the weights' unit */
    __uint128_t bound_energy;     /* 2^-20 of a microjoule */
    uint64_t background_uj;
    uint64_t requests;
    uint64_t missed;
};

struct request_manager {
    struct request_config config;
    struct request_settings settings;
    sd_event *event;
    sd_event_source *tick, *take, *check;
    struct request_programs *programs;
    struct powercap_reader *reader; /* NULL: not needed */
    struct collector *collector;    /* NULL: off, as is the next */
    struct access_log *access_log;
    struct request_metrics *metrics;
    struct metrics_server *server; /* NULL: off */
    bool tree_seen;
    bool missed_logged;
    bool foreign_logged;
    uint64_t realtime_ns; /* CLOCK_REALTIME less CLOCK_MONOTONIC */
    struct sums sums;
    struct work_price price;
    char online[256]; /* CPUs, as the kernel lists them */
    char cgroup_root[PATH_MAX];
    struct cgroup_watch cgroups[REQUEST_CGROUPS_MAX];
};

DEFINE_CLEANUP(struct request_manager *, request_manager_free);

/* The tick. */

static void add_totals(struct sums *sums, const struct request_totals *totals)
{
    sums->work += totals->work - sums->last.work;
    sums->bound_work += totals->bound_work - sums->last.bound_work;
    sums->bound_energy += totals->bound_energy - sums->last.bound_energy;
    sums->missed = totals->events_lost + totals->requests_dropped;
    sums->last = *totals;
}

/* The energy that work was charged, and that was used without work. */
static uint64_t all_energy_uj(const struct request_manager *manager)
{
    if (manager->config.mode == ATTRIBUTION_MODEL)
        return (uint64_t)(manager->sums.work >> REQUEST_WORK_BITS);
    return work_price_charged_uj(&manager->price) + manager->price.unattributed_uj;
}

static void publish_sums(struct request_manager *manager)
{
    struct sums *sums = &manager->sums;
    uint64_t all_uj = all_energy_uj(manager);
    uint64_t bound_uj = (uint64_t)(sums->bound_energy >> REQUEST_ENERGY_BITS);

    /* Background can turn out to be a request's after it was counted: then the sum stands still. */
    if (all_uj > bound_uj && all_uj - bound_uj > sums->background_uj)
        sums->background_uj = all_uj - bound_uj;
    request_metrics_set_sums(
        manager->metrics,
        &(struct request_sums){
            .background_uj = sums->background_uj,
            .bound_work = (uint64_t)(sums->bound_work >> REQUEST_WORK_BITS),
            .work = (uint64_t)(sums->work >> REQUEST_WORK_BITS),
            .missed = sums->missed,
            .log_lines_dropped = manager->access_log ? access_log_dropped(manager->access_log) : 0,
        });
}

static void update_price(struct request_manager *manager, uint64_t time_ns,
                         const struct powercap_energy *energy)
{
    if (energy->reset)
        work_price_forget_counter(&manager->price);
    manager->tree_seen |= energy->known;
    /* Without a tree the factor holds; energy used meanwhile shows when the tree is back. */
    if (manager->tree_seen)
        work_price_tick(&manager->price, time_ns, manager->sums.last.work, energy->energy_uj,
                        energy->delay_ns);
    manager->settings.factor = manager->price.factor;
    request_programs_set(manager->programs, &manager->settings);
}

static void collect(struct request_manager *manager, uint64_t time_ns,
                    const struct powercap_energy *energy)
{
    struct collect_work work = {.totals = manager->sums.last};

    work.n_frequencies = request_programs_read_frequencies(
        manager->programs, REQUEST_FREQUENCIES_MAX, work.frequencies);
    collector_add(manager->collector, time_ns, &work, energy);
}

static void tick(struct request_manager *manager)
{
    struct powercap_energy energy = {0};
    struct request_totals totals;
    uint64_t time_ns;

    if (manager->reader)
        powercap_reader_read(manager->reader, &energy);
    request_programs_read(manager->programs, &totals);
    time_ns = now_ns();
    add_totals(&manager->sums, &totals);
    if (manager->config.mode == ATTRIBUTION_PSYS)
        update_price(manager, time_ns, &energy);
    if (manager->collector)
        collect(manager, time_ns, &energy);
    publish_sums(manager);
}

/* Requests that are over. */

/* The kernel keeps a method as its letters, the last one lowest. */
static uint8_t write_method(uint64_t method, char text[RECORD_METHOD_MAX])
{
    uint8_t length = 0;

    for (unsigned shift = 64; shift > 0; shift -= 8)
        if (method >> (shift - 8))
            text[length++] = (char)(method >> (shift - 8));
    return length;
}

static void on_request(const struct request *request, void *userdata)
{
    struct request_manager *manager = userdata;
    struct request_record record = {
        .end_ns = request->ended_ns + manager->realtime_ns,
        .duration_ns = request->ended_ns - request->arrived_ns,
        .cpu_ns = request->runtime_ns,
        .energy_uj = request->energy >> REQUEST_ENERGY_BITS,
        .header_uj = request->header_uj,
        .has_header = request->has_header,
        .status = request->status,
        .path_length = request->path_length,
    };

    assert(request->path_length <= sizeof(record.path));
    record.method_length = write_method(request->method, record.method);
    memcpy(record.path, request->path, request->path_length);
    request_metrics_add(manager->metrics, &record);
    if (manager->access_log)
        access_log_add(manager->access_log, &record);
    manager->sums.requests++;
}

/* @return how many, or a negative errno */
static int take_requests(struct request_manager *manager)
{
    int n;

    manager->realtime_ns = clock_ns(CLOCK_REALTIME) - now_ns();
    n = request_programs_take_ended(manager->programs, on_request, manager);
    if (manager->access_log)
        access_log_flush(manager->access_log);
    return n;
}

/* Cgroups, CPUs, and what is logged of them. */

/* Where systemd keeps its units: an old host has the unified hierarchy beside the others. */
static void find_cgroup_root(struct request_manager *manager)
{
    struct mount_entry mount;
    bool found = mount_find_type("cgroup2", &mount) == 0;

    snprintf(manager->cgroup_root, sizeof(manager->cgroup_root), "%s",
             found ? mount.path : "/sys/fs/cgroup");
}

/* @return how many are watched */
static size_t check_cgroups(struct request_manager *manager)
{
    size_t n = 0;

    for (size_t i = 0; i < manager->config.n_cgroups; i++) {
        cgroup_watch_check(&manager->cgroups[i], manager->programs, manager->cgroup_root);
        n += manager->cgroups[i].link >= 0;
    }
    return n;
}

/* Hardware counters end with their CPU. */
static void check_cpus(struct request_manager *manager)
{
    char online[sizeof(manager->online)] = "";

    read_file(AT_FDCWD, "/sys/devices/system/cpu/online", online, sizeof(online));
    if (strcmp(online, manager->online) == 0)
        return;
    if (manager->online[0])
        request_programs_update_cpus(manager->programs);
    memcpy(manager->online, online, sizeof(online));
}

static void check(struct request_manager *manager)
{
    size_t n_watched = check_cgroups(manager);

    check_cpus(manager);
    metrics_server_keep(manager->server);

    if (manager->sums.missed > 0 && !manager->missed_logged)
        log_warning("more requests at once than there is room for, some are not reported",
                    F_UINT("missed", manager->sums.missed));
    manager->missed_logged = manager->sums.missed > 0;
    if (manager->sums.last.foreign > 0 && !manager->foreign_logged)
        log_warning("connections are in another program's map of sockets, they are not followed",
                    F_UINT("connections", manager->sums.last.foreign));
    manager->foreign_logged = manager->sums.last.foreign > 0;
    sd_notifyf(false, "STATUS=%zu of %zu control groups followed, %" PRIu64 " requests reported",
               n_watched, manager->config.n_cgroups, manager->sums.requests);
}

/* The event loop. */

static int again(sd_event_source *source, uint64_t delay_usec)
{
    int r = sd_event_source_set_time_relative(source, delay_usec);

    return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_tick(sd_event_source *source, uint64_t due_usec, void *userdata)
{
    struct request_manager *manager = userdata;

    tick(manager);
    return again(source, manager->config.psys_interval_ms * NSEC_PER_MSEC / NSEC_PER_USEC);
}

static int on_take(sd_event_source *source, uint64_t due_usec, void *userdata)
{
    bool are_many = take_requests(userdata) >= MANY_REQUESTS;

    return again(source, are_many ? TAKE_MANY_INTERVAL_USEC : TAKE_INTERVAL_USEC);
}

static int on_check(sd_event_source *source, uint64_t due_usec, void *userdata)
{
    check(userdata);
    return again(source, CHECK_INTERVAL_USEC);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    struct request_manager *manager = userdata;

    if (manager->access_log)
        access_log_reopen(manager->access_log);
    return 0;
}

static int add_signal(struct request_manager *manager, int number,
                      sd_event_signal_handler_t handler)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    /* Without a handler the signal ends the loop, and the userdata is the loop's result. */
    return sd_event_add_signal(manager->event, NULL, number, handler, handler ? manager : NULL);
}

/* To be called before any thread is made: threads inherit the blocked signals. */
static int new_event(struct request_manager *manager)
{
    int r = sd_event_new(&manager->event);

    if (r >= 0)
        r = add_signal(manager, SIGTERM, NULL);
    if (r >= 0)
        r = add_signal(manager, SIGINT, NULL);
    if (r >= 0)
        r = add_signal(manager, SIGHUP, on_hangup);
    return r < 0 ? r : sd_event_set_watchdog(manager->event, true);
}

static int add_timer(struct request_manager *manager, sd_event_source **ret,
                     sd_event_time_handler_t handler)
{
    return sd_event_add_time_relative(manager->event, ret, CLOCK_MONOTONIC, 0, NSEC_PER_USEC,
                                      handler, manager);
}

static int start_loop(struct request_manager *manager)
{
    int r = add_timer(manager, &manager->tick, on_tick);

    if (r >= 0)
        r = add_timer(manager, &manager->take, on_take);
    return r < 0 ? r : add_timer(manager, &manager->check, on_check);
}

int request_manager_run(struct request_manager *manager)
{
    int r;

    check(manager);
    r = start_loop(manager);
    if (r < 0)
        return r;
    sd_notify(false, "READY=1");
    log_info("ready", F_STRING("version", VIRTJOULE_VERSION),
             F_STRING("mode", attribution_mode_to_string(manager->config.mode)),
             F_UINT("port", manager->server ? metrics_server_port(manager->server) : 0));
    r = sd_event_loop(manager->event);
    sd_notify(false, "STOPPING=1");
    take_requests(manager);
    log_info("stopping");
    return r;
}

/* The assembly. */

static uint64_t weight(double number)
{
    return (uint64_t)(number * (1 << REQUEST_WEIGHT_BITS) + 0.5);
}

static int new_programs(struct request_manager *manager)
{
    const struct request_weights *weights = &manager->config.weights;
    struct request_settings *settings = &manager->settings;
    unsigned counts = manager->collector ? ~0u : 0;
    int r;

    *settings = (struct request_settings){
        .runtime_weight = weight(weights->default_multiplier),
        .wakeup_weight = weight(weights->wakeup),
        .migration_weight = weight(weights->migration),
        .counter_weights =
            {
                [REQUEST_CYCLES] = weight(weights->cycles),
                [REQUEST_INSTRUCTIONS] = weight(weights->instructions),
                [REQUEST_CACHE_MISSES] = weight(weights->cache_miss),
            },
    };
    /* The weights are microjoules. */
    if (manager->config.mode == ATTRIBUTION_MODEL)
        settings->factor = UINT64_C(1) << (REQUEST_FACTOR_BITS - REQUEST_WORK_BITS);
    if (settings->wakeup_weight > 0)
        counts |= REQUEST_WAKEUPS;
    if (settings->migration_weight > 0)
        counts |= REQUEST_MIGRATIONS;
    for (unsigned i = 0; i < REQUEST_COUNTERS; i++)
        if (settings->counter_weights[i] > 0)
            counts |= 1u << i;
    r = request_programs_new(&manager->programs, counts);
    if (r == -EPERM || r == -EACCES)
        log_error("no permission: it takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
    if (r < 0)
        return r == -ENOMEM ? r : -EOPNOTSUPP;
    request_programs_set(manager->programs, settings);
    for (size_t i = 0; i < weights->n_frequencies && r == 0; i++)
        r = request_programs_set_frequency(manager->programs, weights->frequencies[i].khz,
                                           weight(weights->frequencies[i].multiplier));
    return r;
}

static int new_reader(struct request_manager *manager)
{
    const struct request_config *config = &manager->config;

    if (config->mode == ATTRIBUTION_MODEL && !manager->collector)
        return 0;
    manager->price.idle_uw = config->idle_power_uw;
    return powercap_reader_new(&manager->reader, config->tree[0] ? config->tree : NULL);
}

static int new_outputs(struct request_manager *manager)
{
    const struct request_config *config = &manager->config;
    int r = 0;

    manager->metrics = request_metrics_new();
    if (!manager->metrics)
        return -ENOMEM;
    if (config->access_log[0])
        r = access_log_new(&manager->access_log, config->access_log, config->access_log_max_bytes);
    if (r == 0 && config->listen[0])
        r = metrics_server_new(&manager->server, config->listen, request_metrics_render,
                               manager->metrics);
    return r;
}

struct request_manager *request_manager_free(struct request_manager *manager)
{
    if (!manager)
        return NULL;
    for (size_t i = 0; i < manager->config.n_cgroups; i++)
        cgroup_watch_end(&manager->cgroups[i]);
    sd_event_source_disable_unref(manager->tick);
    sd_event_source_disable_unref(manager->take);
    sd_event_source_disable_unref(manager->check);
    request_programs_free(manager->programs);
    metrics_server_free(manager->server);
    request_metrics_free(manager->metrics);
    access_log_free(manager->access_log);
    collector_free(manager->collector);
    powercap_reader_free(manager->reader);
    sd_event_unref(manager->event);
    free(manager);
    return NULL;
}

int request_manager_new(struct request_manager **ret, const struct request_config *config,
                        const struct collect_options *collect)
{
    static int (*const steps[])(struct request_manager *) = {
        new_event,
        new_outputs,
        new_reader,
        new_programs,
    };
    _cleanup_(cleanup_request_manager_free) struct request_manager *manager =
        calloc(1, sizeof(*manager));
    int r = 0;

    if (!manager)
        return -ENOMEM;
    manager->config = *config;
    find_cgroup_root(manager);
    for (size_t i = 0; i < config->n_cgroups; i++)
        cgroup_watch_init(&manager->cgroups[i], manager->config.cgroups[i]);
    if (collect->path)
        r = collector_new(&manager->collector, collect->path, collect->label, &manager->config);
    for (size_t i = 0; i < ARRAY_SIZE(steps) && r >= 0; i++)
        r = steps[i](manager);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(manager);
    return 0;
}
