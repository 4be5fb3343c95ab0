/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/libvirt_watch.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libvirt/libvirt_metadata.h"
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
 * are counted by their threads (discovery/process.h).
 * Keepalive messages find a libvirtd that hangs: the connection is then closed
 * after about 20 s, and a call that waits for an answer fails. The only
 * thing written is the energy that travels with a VM (libvirt_metadata.h), over this
 * connection or by another process (metadata_writer.h); where neither may, a
 * read-only connection does the rest.
 *
 * Stopping. The flag `stop` is set and the loop is woken by a timer of its own
 * that is made due. A thread in the loop ends at once. A thread that waits for a
 * reply (a connect has no time limit in libvirt, a call up to those 20 s)
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
    char *metadata_socket;
    pthread_t thread;
    struct libvirt_table table;
    struct libvirt_metadata *metadata_sync;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* of `stop` */
    /* Under the lock: */
    unsigned owners;
    bool stop;

    /* Of the thread alone: */
    virConnectPtr connection;
    struct metadata_writer writer;
    bool lost;
    int lifecycle;    /* callback id, or -1 */
    int relist_timer; /* or -1 */
    bool absence_logged;
    int wake_timer; /* made due by libvirt_watch_free() */
};

/* Metadata that arrived with the domain is read once after each start: later this daemon has
   overwritten it. */
static void read_arrival(struct libvirt_watch *watch, virDomainPtr domain,
                         struct libvirt_domain *result)
{
    unsigned start_number = virDomainGetID(domain);

    if (start_number == (unsigned)-1)
        return;
    if (libvirt_table_arrival(&watch->table, result->uuid, start_number, &result->arrival) ||
        libvirt_metadata_read(domain, &result->arrival))
        result->start_number = start_number;
}

/* Asks libvirt for one domain. @return false when the domain is gone */
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
    read_arrival(watch, domain, &result);
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
    /* A connection that breaks while the domains are read looks like a shorter list. */
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
    libvirt_metadata_touch(watch->metadata_sync, uuid);
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
        libvirt_metadata_write(watch->metadata_sync, &watch->writer))
        virEventUpdateTimeout(timer, 0);
}

/* Errors are reported by return values; without this handler libvirt prints them to stderr too. */
static void on_error(void *data, virErrorPtr error)
{
}

/* Where another process writes, this one does not ask for the right to. @return NULL: no libvirt */
static virConnectPtr connect_to_libvirt(struct libvirt_watch *watch)
{
    struct metadata_writer *writer = &watch->writer;

    *writer = (struct metadata_writer){.fd = -1};
    if (watch->metadata_socket && access(watch->metadata_socket, F_OK) == 0)
        writer->socket_path = watch->metadata_socket;
    else
        writer->connection = virConnectOpen(watch->uri);
    return writer->connection ? writer->connection : virConnectOpenReadOnly(watch->uri);
}

/* @return NULL, or why the connection failed */
static const char *open_connection(struct libvirt_watch *watch)
{
    const char *type;

    watch->lost = false;
    watch->connection = connect_to_libvirt(watch);
    if (!watch->connection ||
        virConnectRegisterCloseCallback(watch->connection, on_close, watch, NULL) < 0 ||
        virConnectSetKeepAlive(watch->connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) < 0)
        return virGetLastErrorMessage();
    type = virConnectGetType(watch->connection);
    if (!type || strcmp(type, "QEMU") != 0)
        return "not a QEMU driver";
    libvirt_table_forget_starts(&watch->table);
    libvirt_metadata_set_connected(watch->metadata_sync,
                                   watch->writer.connection || watch->writer.socket_path);
    return NULL;
}

/* Subscribes before it lists, so that no change is missed in between.
 * @return NULL, or why it failed */
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
    libvirt_metadata_set_connected(watch->metadata_sync, false);
    metadata_writer_disconnect(&watch->writer);
    if (!watch->connection)
        return;
    if (watch->lifecycle >= 0)
        virConnectDomainEventDeregisterAny(watch->connection, watch->lifecycle);
    watch->lifecycle = -1;
    virConnectUnregisterCloseCallback(watch->connection, on_close);
    virConnectClose(watch->connection);
    watch->connection = NULL;
}

/* Logged once, not at each attempt. */
static void log_absence(struct libvirt_watch *watch, const char *reason)
{
    if (!watch->absence_logged)
        log_warning("libvirt unavailable, discovery goes on without it",
                    F_STRING("uri", watch->uri), F_STRING("error", reason));
    watch->absence_logged = true;
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
    watch->absence_logged = false;
    while (!watch->lost && !is_stopped(watch))
        if (virEventRunDefaultImpl() < 0)
            watch->lost = true;
}

/* Drops one owner's reference; the last owner frees the watch. */
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
    libvirt_metadata_free(watch->metadata_sync);
    free(watch->metadata_socket);
    free(watch->uri);
    free(watch);
}

static void *watch_libvirt(void *data)
{
    struct libvirt_watch *watch = data;
    unsigned backoff = BACKOFF_FIRST_S;

    while (!is_stopped(watch)) {
        const char *error = open_connection(watch);

        /* The connect may return long after libvirt_watch_free(). */
        if (!error && !is_stopped(watch))
            error = watch_domains(watch);
        if (!error && !is_stopped(watch)) {
            run_events(watch);
            backoff = BACKOFF_FIRST_S;
            error = "connection closed";
        }
        if (!is_stopped(watch))
            log_absence(watch, error);
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

int libvirt_watch_new(const char *uri, const char *metadata_socket, struct libvirt_watch **ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    _cleanup_(cleanup_release) struct libvirt_watch *watch = calloc(1, sizeof(*watch));
    int r;

    if (!watch)
        return -ENOMEM;
    init_lock(watch);
    watch->owners = 1;
    watch->lifecycle = watch->relist_timer = watch->wake_timer = watch->writer.fd = -1;
    r = libvirt_table_init(&watch->table);
    if (r < 0)
        return r;
    watch->uri = strdup(uri);
    watch->metadata_socket = metadata_socket ? strdup(metadata_socket) : NULL;
    if (!watch->uri || (metadata_socket && !watch->metadata_socket))
        return -ENOMEM;
    r = libvirt_metadata_new(&watch->metadata_sync);
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

void libvirt_watch_publish_energy(struct libvirt_watch *watch, struct vm_departure *departures,
                                  size_t n)
{
    if (libvirt_metadata_offer(watch->metadata_sync, departures, n, now_ns()))
        virEventUpdateTimeout(watch->wake_timer, 0);
}

int libvirt_watch_event_fd(const struct libvirt_watch *watch)
{
    return watch->table.event_fd;
}
