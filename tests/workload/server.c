/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "util/cleanup.h"

#define EVENTS_MAX 64

struct client {
    int fd, file;
};

static void *serve_client(void *data)
{
    struct client client = *(struct client *)data;
    struct connection *connection = connection_new(client.fd, client.file);

    free(data);
    if (connection)
        connection_run(connection);
    connection_free(connection);
    return NULL;
}

int serve_threads(int listen_fd, int file)
{
    pthread_attr_t detached;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        struct client *client = fd < 0 ? NULL : malloc(sizeof(*client));
        pthread_t thread;

        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return -errno;
        if (!client)
            continue;
        *client = (struct client){fd, file};
        if (pthread_create(&thread, &detached, serve_client, client) != 0) {
            close(fd);
            free(client);
        }
    }
}

/* A connection waits in epoll, is run, and waits again. */
struct loop {
    int epoll_fd, listen_fd, file;
    void (*run)(struct loop *loop, struct connection *connection);

    /* Of the pool: connections that have something, to be run by the next free worker. */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct queued {
        struct connection *connection;
        struct queued *next;
    } * first, **last;
};

static void run_and_wait(struct loop *loop, struct connection *connection)
{
    enum connection_wants wants = connection_run(connection);
    struct epoll_event event = {.events = EPOLLONESHOT, .data.ptr = connection};

    event.events |= wants == CONNECTION_WRITE ? EPOLLOUT : EPOLLIN;
    if (wants == CONNECTION_CLOSE ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, connection_fd(connection), &event) < 0)
        connection_free(connection);
}

static void accept_all(struct loop *loop)
{
    int fd;

    while ((fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = connection_new(fd, loop->file);
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = connection};

        if (connection && epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            connection_free(connection);
    }
}

static int loop_run(struct loop *loop)
{
    _cleanup_close_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN};

    loop->epoll_fd = epoll_fd;
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, loop->listen_fd, &event) < 0)
        return -errno;
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr)
                loop->run(loop, events[i].data.ptr);
            else
                accept_all(loop);
        }
    }
}

int serve_events(int listen_fd, int file)
{
    struct loop loop = {.listen_fd = listen_fd, .file = file, .run = run_and_wait};

    return loop_run(&loop);
}

static void hand_over(struct loop *loop, struct connection *connection)
{
    struct queued *queued = malloc(sizeof(*queued));

    if (!queued) {
        connection_free(connection);
        return;
    }
    *queued = (struct queued){.connection = connection};
    pthread_mutex_lock(&loop->lock);
    *loop->last = queued;
    loop->last = &queued->next;
    pthread_cond_signal(&loop->ready);
    pthread_mutex_unlock(&loop->lock);
}

static void *work_off(void *data)
{
    struct loop *loop = data;

    for (;;) {
        struct queued *queued;

        pthread_mutex_lock(&loop->lock);
        while (!loop->first)
            pthread_cond_wait(&loop->ready, &loop->lock);
        queued = loop->first;
        loop->first = queued->next;
        if (!loop->first)
            loop->last = &loop->first;
        pthread_mutex_unlock(&loop->lock);
        run_and_wait(loop, queued->connection);
        free(queued);
    }
    return NULL;
}

int serve_pool(int listen_fd, int file, unsigned workers)
{
    struct loop loop = {.listen_fd = listen_fd, .file = file, .run = hand_over};

    loop.last = &loop.first;
    pthread_mutex_init(&loop.lock, NULL);
    pthread_cond_init(&loop.ready, NULL);
    for (unsigned i = 0; i < workers; i++) {
        pthread_t thread;
        int r = pthread_create(&thread, NULL, work_off, &loop);

        if (r != 0)
            return -r;
    }
    return loop_run(&loop);
}
