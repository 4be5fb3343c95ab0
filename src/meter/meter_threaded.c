/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter_threaded.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/thread.h"

/* How long the end of a meter waits for its reader; a reader that hangs is left behind. */
#define STOP_TIMEOUT_NS (200 * NSEC_PER_MSEC)

/* Shared by the meter and its thread; the last owner frees it. */
struct worker {
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    unsigned owners;
    bool stop;
    uint64_t asked; /* number of the last question */
    uint64_t ended; /* number of the last question that ended */
    struct meter_outcome outcome;

    int event_fd; /* readable: a question ended */
    const struct meter_reader_ops *ops;
    void *reader;
};

struct meter_threaded {
    struct meter meter;
    struct meter_ops ops; /* with the reader's name */
    pthread_t thread;
    struct worker *worker;
    sd_event_source *io;
};

void meter_outcome_fail(struct meter_outcome *outcome, enum meter_state state, const char *format,
                        ...)
{
    va_list arguments;

    outcome->state = state;
    va_start(arguments, format);
    vsnprintf(outcome->detail, sizeof(outcome->detail), format, arguments);
    va_end(arguments);
}

/* Ends one owner's use. Until there are two owners, the reader belongs to the caller of
   meter_threaded_new(). */
static void release(struct worker *worker)
{
    bool last;

    pthread_mutex_lock(&worker->lock);
    last = --worker->owners == 0;
    pthread_mutex_unlock(&worker->lock);
    if (!last)
        return;
    if (worker->reader)
        worker->ops->free(worker->reader);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    close(worker->event_fd);
    free(worker);
}
DEFINE_CLEANUP(struct worker *, release);

/* @return the number of the next question, 0 at the end of the meter */
static uint64_t wait_for_question(struct worker *worker)
{
    uint64_t question;

    pthread_mutex_lock(&worker->lock);
    while (!worker->stop && worker->ended == worker->asked)
        pthread_cond_wait(&worker->changed, &worker->lock);
    question = worker->stop ? 0 : worker->asked;
    pthread_mutex_unlock(&worker->lock);
    return question;
}

static void *work(void *data)
{
    struct worker *worker = data;
    uint64_t question;

    while ((question = wait_for_question(worker))) {
        struct meter_outcome outcome = {0};

        worker->ops->read(worker->reader, &outcome);
        pthread_mutex_lock(&worker->lock);
        worker->outcome = outcome;
        worker->ended = question;
        pthread_mutex_unlock(&worker->lock);
        eventfd_write(worker->event_fd, 1);
    }
    release(worker);
    return NULL;
}

static struct meter_threaded *from_meter(struct meter *meter)
{
    return (struct meter_threaded *)meter;
}

static void threaded_ask(struct meter *meter)
{
    struct worker *worker = from_meter(meter)->worker;

    pthread_mutex_lock(&worker->lock);
    worker->asked++;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

/* The thread goes on. Its outcome is dropped: the number of its question is an old one. */
static void threaded_cancel(struct meter *meter)
{
}

static int on_ended(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct meter_threaded *threaded = userdata;
    struct worker *worker = threaded->worker;
    struct meter_outcome outcome;
    eventfd_t count;
    bool current;

    (void)!eventfd_read(fd, &count);
    pthread_mutex_lock(&worker->lock);
    current = worker->ended == worker->asked;
    outcome = worker->outcome;
    pthread_mutex_unlock(&worker->lock);
    if (!current || !threaded->meter.asked_ns)
        return 0;
    if (outcome.state == METER_OK)
        meter_answer(&threaded->meter, &outcome.reading);
    else
        meter_fail(&threaded->meter, outcome.state, outcome.detail);
    return 0;
}

static void stop_thread(struct meter_threaded *threaded)
{
    struct worker *worker = threaded->worker;
    struct timespec until = ns_to_timespec(now_ns() + STOP_TIMEOUT_NS);

    pthread_mutex_lock(&worker->lock);
    worker->stop = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    if (pthread_clockjoin_np(threaded->thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        pthread_detach(threaded->thread);
}

static void threaded_free(struct meter *meter)
{
    struct meter_threaded *threaded = from_meter(meter);

    sd_event_source_disable_unref(threaded->io);
    stop_thread(threaded);
    release(threaded->worker);
    free(threaded);
}

static int start_thread(struct meter_threaded *threaded)
{
    sigset_t previous;
    int r;

    thread_block_signals(&previous);
    r = pthread_create(&threaded->thread, NULL, work, threaded->worker);
    thread_restore_signals(&previous);
    return -r;
}

/* @return NULL with errno set */
static struct worker *new_worker(const struct meter_reader_ops *ops)
{
    _cleanup_free_ struct worker *worker = malloc(sizeof(*worker));

    if (!worker)
        return NULL;
    *worker = (struct worker){.owners = 1, .ops = ops};
    worker->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->event_fd < 0)
        return NULL;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    return TAKE_PTR(worker);
}

int meter_threaded_new(struct meter **ret, sd_event *event, const struct meter_reader_ops *ops,
                       void *reader, uint64_t interval_ns, uint64_t timeout_ns)
{
    _cleanup_free_ struct meter_threaded *threaded = malloc(sizeof(*threaded));
    _cleanup_(cleanup_release) struct worker *worker = new_worker(ops);
    int r;

    if (!worker)
        return -errno;
    if (!threaded)
        return -ENOMEM;
    *threaded = (struct meter_threaded){
        .meter = {.ops = &threaded->ops, .interval_ns = interval_ns, .timeout_ns = timeout_ns},
        .ops = {.name = ops->name,
                .ask = threaded_ask,
                .cancel = threaded_cancel,
                .free = threaded_free},
        .worker = worker,
    };
    r = sd_event_add_io(event, &threaded->io, worker->event_fd, EPOLLIN, on_ended, threaded);
    if (r < 0)
        return r;
    worker->owners = 2;
    worker->reader = reader;
    r = start_thread(threaded);
    if (r < 0) {
        worker->owners = 1;
        worker->reader = NULL;
        sd_event_source_disable_unref(threaded->io);
        return r;
    }
    (void)TAKE_PTR(worker);
    *ret = &TAKE_PTR(threaded)->meter;
    return 0;
}
