/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/libvirt_watch.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "discovery/libvirt_carry.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/thread.h"

/*
 * One thread connects, lists the domains, and then runs libvirt's default
 * event loop until the connection closes:
 *
 *     wait -> connect -> list -> run events -> closed -> wait ...
 *
 * A lifecycle event updates its one domain. Changes that have no event (the
 * vCPUs of the next start, an event lost) are found by listing all of them once
 * a minute. Plugging a vCPU has no event of any kind: those of a running domain
 * are counted by their threads (process.h).
 * Keepalive messages find a libvirtd that hangs: the connection is then closed
 * after about 20 s, and a call that waits for an answer fails. All that is
 * written is what VMs carry with them (libvirt_carry.h); where that is not
 * allowed, the read-only connection is enough for the rest.
 *
 * Stopping. The flag `stop` is set and the loop is woken by a timer of its own
 * that is made due. A thread in the loop is gone at once. One that waits for a
 * reply (a connect has no time limit in libvirt, and a call up to those 20 s)
 * cannot be interrupted: after STOP_TIMEOUT_NS it is detached, and frees the
 * watch itself when the call returns. The watch therefore counts its two
 * owners. Nothing else in the process depends on that thread.
 *
 * libvirt's event loop is one per process and cannot be unregistered; it is
 * registered once, and any number of watches in succession may run it.
 */

#define BACKOFF_FIRST_S 1
#define BACKOFF_MAX_S 60
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT 3
#define RELIST_INTERVAL_MS (60 * 1000)
#define STOP_TIMEOUT_NS (900 * 1000 * 1000)

struct libvirt_watch {
    char *uri;
    pthread_t thread;
    struct libvirt_table table;
    struct libvirt_carry *carry;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* of `stop` */
    /* Under the lock: */
    unsigned owners;
    bool stop;

    /* Of the thread alone: */
    virConnectPtr connection;
    bool lost;
    int lifecycle;    /* callback id, or -1 */
    int relist_timer; /* or -1 */
    bool told_absent; /* the log says so already */
    int wake_timer;   /* made due by libvirt_watch_free() */
};

/* What the domain brought with it is read once in each run: later it is what we wrote. */
static void read_carried(struct libvirt_watch *watch, virDomainPtr domain,
                         struct libvirt_domain *result)
{
    unsigned run = virDomainGetID(domain);

    if (run == (unsigned)-1)
        return;
    if (libvirt_table_carried(&watch->table, result->uuid, run, &result->carried) ||
        libvirt_carry_read(domain, &result->carried))
        result->run = run;
}

/* Asks libvirt for one domain. False where it is gone. */
static bool read_domain(struct libvirt_watch *watch, virDomainPtr domain,
                        struct libvirt_domain *ret)
{
    struct libvirt_domain result = {0};
    const char *name = virDomainGetName(domain);
    int persistent = virDomainIsPersistent(domain);
    virDomainInfo info;

    if (!name || persistent < 0 || virDomainGetUUID(domain, result.uuid) < 0 ||
        virDomainGetInfo(domain, &info) < 0)
        return false;
    strncpy(result.name, name, sizeof(result.name) - 1);
    result.defined = persistent > 0;
    result.vcpus = info.nrVirtCpu > 0 ? info.nrVirtCpu : 1;
    read_carried(watch, domain, &result);
    *ret = result;
    return true;
}

static bool list_domains(struct libvirt_watch *watch)
{
    virDomainPtr *handles = NULL;
    int n_handles = virConnectListAllDomains(watch->connection, &handles, 0);
    struct libvirt_domain *domains;
    size_t n = 0;

    if (n_handles < 0)
        return false;
    domains = calloc((size_t)n_handles + 1, sizeof(*domains));
    for (int i = 0; i < n_handles; i++) {
        if (domains && read_domain(watch, handles[i], &domains[n]))
            n++;
        virDomainFree(handles[i]);
    }
    free(handles);
    if (!domains)
        return false;
    /* A connection that broke in the middle looks like a list of few domains. */
    if (virConnectIsAlive(watch->connection) != 1) {
        free(domains);
        return false;
    }
    libvirt_table_replace(&watch->table, domains, n);
    return true;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *data)
{
    struct libvirt_watch *watch = data;
    struct libvirt_domain result;
    uuid_t uuid;

    if (watch->lost || virDomainGetUUID(domain, uuid) < 0)
        return 0;
    libvirt_carry_touch(watch->carry, uuid);
    if (read_domain(watch, domain, &result))
        libvirt_table_put(&watch->table, &result);
    else if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
        libvirt_table_remove(&watch->table, uuid);
    return 0;
}

static void on_close(virConnectPtr connection, int reason, void *data)
{
    struct libvirt_watch *watch = data;

    watch->lost = true;
}

static void on_relist(int timer, void *data)
{
    struct libvirt_watch *watch = data;

    if (!watch->lost && !list_domains(watch) && virConnectIsAlive(watch->connection) != 1)
        watch->lost = true;
}

static bool is_stopped(struct libvirt_watch *watch)
{
    bool stop;

    pthread_mutex_lock(&watch->lock);
    stop = watch->stop;
    pthread_mutex_unlock(&watch->lock);
    return stop;
}

static void on_wake(int timer, void *data)
{
    struct libvirt_watch *watch = data;

    virEventUpdateTimeout(timer, -1);
    if (watch->connection && !watch->lost && !is_stopped(watch) &&
        libvirt_carry_write(watch->carry, watch->connection))
        virEventUpdateTimeout(timer, 0);
}

/* Errors are reported through what calls return; libvirt would write them to stderr as well. */
static void on_error(void *data, virErrorPtr error)
{
}

/* Returns NULL, or why it failed. */
static const char *open_connection(struct libvirt_watch *watch)
{
    const char *type;
    bool writable;

    watch->lost = false;
    watch->connection = virConnectOpen(watch->uri);
    writable = watch->connection != NULL;
    if (!writable)
        watch->connection = virConnectOpenReadOnly(watch->uri);
    if (!watch->connection ||
        virConnectRegisterCloseCallback(watch->connection, on_close, watch, NULL) < 0 ||
        virConnectSetKeepAlive(watch->connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) < 0)
        return virGetLastErrorMessage();
    type = virConnectGetType(watch->connection);
    if (!type || strcmp(type, "QEMU") != 0)
        return "not a QEMU driver";
    libvirt_table_forget_runs(&watch->table);
    libvirt_carry_connected(watch->carry, writable);
    return NULL;
}

/* Events first, then the list: nothing falls between. Returns NULL, or why it failed. */
static const char *watch_domains(struct libvirt_watch *watch)
{
    /* libvirt wants a cast of the function's type; compilers accept it by way of this one. */
    void (*lifecycle)(void) = (void (*)(void))on_lifecycle;

    watch->lifecycle =
        virConnectDomainEventRegisterAny(watch->connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                         VIR_DOMAIN_EVENT_CALLBACK(lifecycle), watch, NULL);
    watch->relist_timer = virEventAddTimeout(RELIST_INTERVAL_MS, on_relist, watch, NULL);
    if (watch->lifecycle < 0 || watch->relist_timer < 0 || !list_domains(watch))
        return virGetLastErrorMessage();
    return NULL;
}

static void close_connection(struct libvirt_watch *watch)
{
    if (watch->relist_timer >= 0)
        virEventRemoveTimeout(watch->relist_timer);
    watch->relist_timer = -1;
    libvirt_carry_connected(watch->carry, false);
    if (!watch->connection)
        return;
    if (watch->lifecycle >= 0)
        virConnectDomainEventDeregisterAny(watch->connection, watch->lifecycle);
    watch->lifecycle = -1;
    virConnectUnregisterCloseCallback(watch->connection, on_close);
    virConnectClose(watch->connection);
    watch->connection = NULL;
}

/* Once, not at each try. */
static void tell_absent(struct libvirt_watch *watch, const char *reason)
{
    if (!watch->told_absent)
        log_warning("libvirt unavailable, discovery goes on without it",
                    F_STRING("uri", watch->uri), F_STRING("error", reason));
    watch->told_absent = true;
}

static void wait_seconds(struct libvirt_watch *watch, unsigned seconds)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&watch->lock);
    while (!watch->stop && pthread_cond_timedwait(&watch->changed, &watch->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&watch->lock);
}

static void run_events(struct libvirt_watch *watch)
{
    log_info("libvirt connected", F_STRING("uri", watch->uri));
    watch->told_absent = false;
    while (!watch->lost && !is_stopped(watch))
        if (virEventRunDefaultImpl() < 0)
            watch->lost = true;
}

/* Ends one owner's use of the watch; the last one's frees it. */
static void release(struct libvirt_watch *watch)
{
    bool last;

    pthread_mutex_lock(&watch->lock);
    last = --watch->owners == 0;
    pthread_mutex_unlock(&watch->lock);
    if (!last)
        return;
    if (watch->wake_timer >= 0)
        virEventRemoveTimeout(watch->wake_timer);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    libvirt_table_deinit(&watch->table);
    libvirt_carry_free(watch->carry);
    free(watch->uri);
    free(watch);
}

static void *watch_libvirt(void *data)
{
    struct libvirt_watch *watch = data;
    unsigned backoff = BACKOFF_FIRST_S;

    while (!is_stopped(watch)) {
        const char *error = open_connection(watch);

        /* The connect may have returned long after the watch was given up. */
        if (!error && !is_stopped(watch))
            error = watch_domains(watch);
        if (!error && !is_stopped(watch)) {
            run_events(watch);
            backoff = BACKOFF_FIRST_S;
            error = "connection closed";
        }
        if (!is_stopped(watch))
            tell_absent(watch, error);
        close_connection(watch);
        wait_seconds(watch, backoff);
        backoff = backoff < BACKOFF_MAX_S / 2 ? 2 * backoff : BACKOFF_MAX_S;
    }
    release(watch);
    return NULL;
}

static int event_loop_error;

static void register_event_loop(void)
{
    virSetErrorFunc(NULL, on_error);
    event_loop_error = virEventRegisterDefaultImpl() < 0 ? -EIO : 0;
}

static int start_thread(struct libvirt_watch *watch)
{
    sigset_t previous;
    int r;

    thread_block_signals(&previous);
    r = pthread_create(&watch->thread, NULL, watch_libvirt, watch);
    thread_restore_signals(&previous);
    return -r;
}

static void init_lock(struct libvirt_watch *watch)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&watch->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

DEFINE_CLEANUP(struct libvirt_watch *, release);

int libvirt_watch_new(const char *uri, struct libvirt_watch **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    _cleanup_(cleanup_release) struct libvirt_watch *watch = calloc(1, sizeof(*watch));
    int r;

    if (!watch)
        return -ENOMEM;
    init_lock(watch);
    watch->owners = 1;
    watch->lifecycle = watch->relist_timer = watch->wake_timer = -1;
    r = libvirt_table_init(&watch->table);
    if (r < 0)
        return r;
    watch->uri = strdup(uri);
    if (!watch->uri)
        return -ENOMEM;
    r = libvirt_carry_new(&watch->carry);
    if (r < 0)
        return r;
    pthread_once(&once, register_event_loop);
    if (event_loop_error < 0)
        return event_loop_error;
    watch->wake_timer = virEventAddTimeout(-1, on_wake, watch, NULL);
    if (watch->wake_timer < 0)
        return -ENOMEM;
    watch->owners = 2;
    r = start_thread(watch);
    if (r < 0) {
        watch->owners = 1;
        return r;
    }
    *ret = TAKE_PTR(watch);
    return 0;
}

struct libvirt_watch *libvirt_watch_free(struct libvirt_watch *watch)
{
    struct timespec until;

    if (!watch)
        return NULL;
    pthread_mutex_lock(&watch->lock);
    watch->stop = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    virEventUpdateTimeout(watch->wake_timer, 0);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += STOP_TIMEOUT_NS;
    if (until.tv_nsec >= (long)NSEC_PER_SEC) {
        until.tv_nsec -= (long)NSEC_PER_SEC;
        until.tv_sec++;
    }
    if (pthread_clockjoin_np(watch->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        pthread_detach(watch->thread);
    release(watch);
    return NULL;
}

int libvirt_watch_domains(struct libvirt_watch *watch, struct libvirt_domain **ret, size_t *ret_n)
{
    return libvirt_table_copy(&watch->table, ret, ret_n);
}

void libvirt_watch_carry(struct libvirt_watch *watch, struct vm_leave *leaves, size_t n)
{
    if (libvirt_carry_offer(watch->carry, leaves, n, now_ns()))
        virEventUpdateTimeout(watch->wake_timer, 0);
}

int libvirt_watch_event_fd(const struct libvirt_watch *watch)
{
    return watch->table.event_fd;
}
