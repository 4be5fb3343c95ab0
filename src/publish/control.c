/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "util/unix_socket.h"

/* The name of the socket that the service manager listens on. */
#define SOCKET_NAME "control"

#define REQUEST_MAX 4096
#define CLIENTS_MAX 16
#define CLIENT_TIMEOUT_USEC UINT64_C(5000000)
/* Rate-limit accepts so that connection floods cannot delay ticks. */
#define CONNECTS_PER_INTERVAL 64
#define CONNECTS_INTERVAL_USEC UINT64_C(1000000)

struct client {
    struct control *control;
    int fd;
    sd_event_source *io;
    sd_event_source *timeout;
    char request[REQUEST_MAX];
    size_t request_length;
    char *reply; /* NULL while the request is read */
    size_t reply_length;
    size_t sent;
    struct client *next;
};

struct control {
    sd_event *event;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* empty: the service manager's */
    char *mountpoint;
    struct snapshot_board *board;
    struct control_actions actions;
    gid_t group;
    int fd;
    sd_event_source *io;
    struct client *clients;
    unsigned n_clients;
};

static void client_free(struct client *client)
{
    struct client **link = &client->control->clients;

    while (*link && *link != client)
        link = &(*link)->next;
    if (*link) {
        *link = client->next;
        client->control->n_clients--;
    }
    sd_event_source_disable_unref(client->io);
    sd_event_source_disable_unref(client->timeout);
    if (client->fd >= 0)
        close(client->fd);
    free(client->reply);
    free(client);
}
DEFINE_CLEANUP(struct client *, client_free);

static int on_client_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
    client_free(userdata);
    return 0;
}

/* Does what the request asks for. The snapshot shows the result. */
static void client_act(const struct client *client)
{
    const struct control_actions *actions = &client->control->actions;
    uuid_t uuid;
    int r;

    if (!control_asks_prepare(client->request, client->request_length, uuid))
        return;
    r = actions->prepare(actions->userdata, uuid);
    if (r < 0)
        log_error("a VM's tree could not be prepared", F_ERROR(r));
}

static int client_reply(struct client *client)
{
    const struct snapshot *snapshot;
    int r;

    client_act(client);
    snapshot = snapshot_board_acquire(client->control->board);
    r = control_answer(client->request, client->request_length, snapshot,
                       client->control->mountpoint, &client->reply);
    snapshot_board_release(client->control->board, snapshot);
    if (r < 0)
        return r;
    client->reply_length = strlen(client->reply);
    return sd_event_source_set_io_events(client->io, EPOLLOUT);
}

/* @return 1 when the request is complete, 0 when more must come, or a negative errno */
static int client_read(struct client *client)
{
    ssize_t n = read(client->fd, client->request + client->request_length,
                     sizeof(client->request) - client->request_length);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    if (n == 0)
        return -ECONNRESET;
    client->request_length += (size_t)n;
    if (memchr(client->request, '\n', client->request_length))
        return 1;
    return client->request_length < sizeof(client->request) ? 0 : -EMSGSIZE;
}

/* @return 1 when all is sent, 0 when more must go, or a negative errno */
static int client_write(struct client *client)
{
    ssize_t n = send(client->fd, client->reply + client->sent, client->reply_length - client->sent,
                     MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    client->sent += (size_t)n;
    return client->sent == client->reply_length;
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct client *client = userdata;
    int r;

    if (!client->reply) {
        r = client_read(client);
        if (r > 0)
            r = client_reply(client);
        if (r < 0)
            client_free(client);
        return 0;
    }
    if (client_write(client) != 0)
        client_free(client);
    return 0;
}

static bool in_group(int fd, gid_t group)
{
    gid_t groups[256];
    socklen_t size = sizeof(groups);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
        return false;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++)
        if (groups[i] == group)
            return true;
    return false;
}

static bool may_ask(const struct control *control, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid() ||
           (control->group != (gid_t)-1 &&
            (peer.gid == control->group || in_group(fd, control->group)));
}

static int client_new(struct control *control, int fd)
{
    _cleanup_(cleanup_client_free) struct client *client = calloc(1, sizeof(*client));
    int r;

    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    client->control = control;
    client->fd = fd;
    r = sd_event_add_io(control->event, &client->io, fd, EPOLLIN, on_client, client);
    if (r < 0)
        return r;
    r = sd_event_add_time_relative(control->event, &client->timeout, CLOCK_MONOTONIC,
                                   CLIENT_TIMEOUT_USEC, 0, on_client_timeout, client);
    if (r < 0)
        return r;
    client->next = control->clients;
    control->clients = TAKE_PTR(client);
    control->n_clients++;
    return 0;
}

/* Newer clients come first. */
static struct client *oldest(const struct control *control)
{
    struct client *client = control->clients;

    while (client->next)
        client = client->next;
    return client;
}

static int on_connect(sd_event_source *source, int listen_fd, uint32_t events, void *userdata)
{
    struct control *control = userdata;
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return 0;
    if (!may_ask(control, fd)) {
        close(fd);
        return 0;
    }
    /* Clients that stall cannot keep others out. */
    if (control->n_clients == CLIENTS_MAX)
        client_free(oldest(control));
    client_new(control, fd);
    return 0;
}

struct control *control_free(struct control *control)
{
    if (!control)
        return NULL;
    while (control->clients)
        client_free(control->clients);
    sd_event_source_disable_unref(control->io);
    if (control->fd >= 0) {
        close(control->fd);
        if (control->path[0])
            unlink(control->path);
    }
    free(control->mountpoint);
    free(control);
    return NULL;
}
DEFINE_CLEANUP(struct control *, control_free);

/* @return a socket that the service manager listens on, or -1: there is none */
static int inherit_socket(struct descriptors *descriptors)
{
    for (int fd; (fd = descriptors_next(descriptors, SOCKET_NAME)) >= 0; close(fd))
        /* A client may disconnect before accept4(), which must not wait then. */
        if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
            return fd;
    return -1;
}

static int open_socket(struct control *control, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    control->fd = unix_socket_listen(&address, control->group, CLIENTS_MAX);
    if (control->fd >= 0)
        memcpy(control->path, path, strlen(path) + 1);
    return control->fd;
}

int control_new(struct control **ret, sd_event *event, const char *path, const char *mountpoint,
                struct snapshot_board *board, struct descriptors *descriptors,
                const struct control_actions *actions)
{
    _cleanup_(cleanup_control_free) struct control *control = calloc(1, sizeof(*control));
    const struct group *group = getgrnam(CONTROL_GROUP);
    int r;

    if (!control)
        return -ENOMEM;
    control->event = event;
    control->board = board;
    control->actions = *actions;
    control->group = group ? group->gr_gid : (gid_t)-1;
    control->fd = -1;
    control->mountpoint = strdup(mountpoint);
    if (!control->mountpoint)
        return -ENOMEM;
    control->fd = inherit_socket(descriptors);
    r = control->fd >= 0 ? 0 : open_socket(control, path);
    if (r >= 0)
        r = sd_event_add_io(event, &control->io, control->fd, EPOLLIN, on_connect, control);
    if (r >= 0)
        r = sd_event_source_set_ratelimit(control->io, CONNECTS_INTERVAL_USEC,
                                          CONNECTS_PER_INTERVAL);
    if (r < 0) {
        log_error(r == -EADDRINUSE ? "another virtjouled answers on the control socket"
                                   : "no control socket",
                  F_STRING("path", path), F_ERROR(r));
        return r;
    }
    *ret = TAKE_PTR(control);
    return 0;
}
