/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The HTTP side of the metrics. libmicrohttpd serves on a thread of its own;
 * it bounds the size of a request and the time of silence on a connection. It
 * does not bound a client that sends one byte now and then for hours, so a new
 * connection beyond a bound closes the oldest one: a client may hold
 * connections, but cannot keep other clients out.
 */

#include "util/metrics_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/backoff.h"
#include "util/cleanup.h"
#include "util/listen_address.h"
#include "util/log.h"
#include "util/thread.h"
#include "util/unix_socket.h"

#define CONNECTIONS_MAX 32
/* Room for connections that are still being closed when newer ones arrive. */
#define CONNECTIONS_HARD_MAX (2 * CONNECTIONS_MAX)
#define SILENCE_MAX_S 10U
#define REQUEST_MAX_BYTES ((size_t)16384)
#define CONTENT_TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define CONTENT_TYPE_TEXT "text/plain; charset=utf-8"

struct metrics_server {
    metrics_render render;
    void *data;
    char *listen; /* as it was asked for */
    struct listen_address address;
    unsigned port;             /* 0 while nothing is served, or on a Unix socket */
    struct MHD_Daemon *daemon; /* NULL: nothing is served yet */
    struct backoff retry;
    int error; /* of the last attempt, as logged; 0: it succeeded */
    /* Sockets of the open connections, the oldest first. Only the server's thread uses them. */
    int connections[CONNECTIONS_HARD_MAX];
    size_t n_connections;
};

DEFINE_CLEANUP(struct metrics_server *, metrics_server_free);

/* @return a response with a text of static storage, or NULL */
static struct MHD_Response *text_response(const char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);

    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE_TEXT);
    return response;
}

/* @return the metrics, or NULL without memory */
static struct MHD_Response *metrics_response(const struct metrics_server *server)
{
    struct MHD_Response *response = NULL;
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    int r = stream ? server->render(stream, server->data) : -ENOMEM;

    if (stream && fclose(stream) == 0 && r == 0)
        response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE_METRICS);
    else
        free(text);
    return response;
}

static bool method_answered(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static struct MHD_Response *make_response(const struct metrics_server *server, const char *url,
                                          const char *method, unsigned *ret_status)
{
    bool metrics = strcmp(url, "/metrics") == 0;
    struct MHD_Response *response;

    if (!metrics && strcmp(url, "/") != 0) {
        *ret_status = MHD_HTTP_NOT_FOUND;
        return text_response("not found; the metrics are at /metrics\n");
    }
    if (!method_answered(method)) {
        *ret_status = MHD_HTTP_METHOD_NOT_ALLOWED;
        response = text_response("only GET and HEAD are answered\n");
        if (response)
            MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
        return response;
    }
    *ret_status = MHD_HTTP_OK;
    return metrics ? metrics_response(server)
                   : text_response("virtjoule: the metrics are at /metrics\n");
}

/*
 * Called when the headers are there, for each piece of a body, and at the end.
 * An answer at the first call closes the connection, which is right for a
 * method that may bring a body; the other connections stay open for the next
 * request.
 */
static enum MHD_Result answer(void *data, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **request)
{
    struct MHD_Response *response;
    enum MHD_Result result;
    unsigned status;

    if (method_answered(method) && (!*request || *upload_size > 0)) {
        *request = data;
        *upload_size = 0;
        return MHD_YES;
    }
    response = make_response(data, url, method, &status);
    /* MHD_NO closes the connection. */
    if (!response)
        return MHD_NO;
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static void connection_add(struct metrics_server *server, int fd)
{
    if (server->n_connections >= CONNECTIONS_MAX)
        shutdown(server->connections[server->n_connections - CONNECTIONS_MAX], SHUT_RDWR);
    if (server->n_connections < CONNECTIONS_HARD_MAX)
        server->connections[server->n_connections++] = fd;
}

static void connection_remove(struct metrics_server *server, int fd)
{
    size_t i = 0;

    while (i < server->n_connections && server->connections[i] != fd)
        i++;
    if (i == server->n_connections)
        return;
    server->n_connections--;
    memmove(&server->connections[i], &server->connections[i + 1],
            (server->n_connections - i) * sizeof(server->connections[0]));
}

static void watch_connection(void *data, struct MHD_Connection *connection, void **context,
                             enum MHD_ConnectionNotificationCode code)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    if (!info)
        return;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_add(data, info->connect_fd);
    else
        connection_remove(data, info->connect_fd);
}

/* @return a descriptor or a negative errno */
static int listen_port(const struct listen_address *address)
{
    _cleanup_close_ int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, &address->any, address->length) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* @return a descriptor or a negative errno */
static int listen_open(const struct listen_address *address)
{
    /* A Unix socket is for the program's user and group. */
    if (address->any.sa_family == AF_UNIX)
        return unix_socket_listen(&address->local, getegid(), SOMAXCONN);
    return listen_port(address);
}

static int server_start(struct metrics_server *server)
{
    _cleanup_close_ int fd = listen_open(&server->address);
    struct listen_address bound = {.length = sizeof(bound.local)};
    sigset_t previous;

    if (fd < 0)
        return fd;
    if (getsockname(fd, &bound.any, &bound.length) < 0)
        return -errno;
    thread_block_signals(&previous);
    errno = 0;
    server->daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, answer, server, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_HARD_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        SILENCE_MAX_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_MAX_BYTES,
        MHD_OPTION_NOTIFY_CONNECTION, watch_connection, server, MHD_OPTION_END);
    thread_restore_signals(&previous);
    if (!server->daemon)
        return errno ? -errno : -EIO;
    TAKE_FD(fd); /* the server closes it */
    server->port = listen_address_port(&bound);
    return 0;
}

/* Each reason is told once. */
static void note_start(struct metrics_server *server, int error)
{
    if (error && error != server->error)
        log_warning("metrics cannot be served, it is tried again",
                    F_STRING("listen", server->listen), F_ERROR(error));
    else if (!error && server->error)
        log_info("metrics are served now", F_STRING("listen", server->listen));
    server->error = error;
}

void metrics_server_keep(struct metrics_server *server)
{
    uint64_t now = now_ns();
    int r;

    if (!server || server->daemon || !backoff_is_due(&server->retry, now))
        return;
    r = server_start(server);
    note_start(server, r);
    if (r < 0)
        backoff_failed(&server->retry, now);
}

int metrics_server_new(struct metrics_server **ret, const char *listen, metrics_render render,
                       void *data)
{
    _cleanup_(cleanup_metrics_server_free) struct metrics_server *server =
        calloc(1, sizeof(*server));

    if (!server)
        return -ENOMEM;
    server->render = render;
    server->data = data;
    server->listen = strdup(listen);
    if (!server->listen)
        return -ENOMEM;
    if (listen_address_parse(listen, &server->address) < 0)
        return -EINVAL;
    metrics_server_keep(server);
    *ret = TAKE_PTR(server);
    return 0;
}

unsigned metrics_server_port(const struct metrics_server *server)
{
    return server->port;
}

struct metrics_server *metrics_server_free(struct metrics_server *server)
{
    if (!server)
        return NULL;
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    if (server->daemon && server->address.any.sa_family == AF_UNIX)
        unlink(server->address.local.sun_path);
    free(server->listen);
    free(server);
    return NULL;
}
