/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The HTTP side of the metrics. libmicrohttpd serves on a thread of its own;
 * it bounds the size of a request and the time of silence on a connection. It
 * does not bound a client that sends one byte now and then for hours, so a new
 * connection beyond a bound closes the oldest one: a client may hold
 * connections, but cannot keep other clients out.
 *
 * A text of thousands of VMs is megabytes, and stays until its client has read
 * it. Clients that ask while it is being sent get the same text, as long as it
 * is new, and when too many texts are being sent all older connections close.
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
#define TEXTS_MAX 2
#define TEXT_SHARED_NS NSEC_PER_SEC
#define REQUEST_MAX_BYTES ((size_t)16384)
#define METRICS "/metrics"
#define CONTENT_TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define CONTENT_TYPE_TEXT "text/plain; charset=utf-8"

/* Metrics that are being sent. */
struct text {
    struct metrics_server *server;
    char *bytes;
    uint64_t made_ns;
    struct MHD_Response *response;
};

struct metrics_server {
    metrics_render render;
    void *data;
    char *listen; /* as it was asked for */
    struct listen_address address;
    unsigned port;             /* 0 while nothing is served, or on a Unix socket */
    struct MHD_Daemon *daemon; /* NULL: nothing is served yet */
    struct backoff retry;
    int error; /* of the last attempt, as logged; 0: it succeeded */
    /* Only the server's thread uses what follows. Sockets of the open connections, the oldest
     * first. */
    int connections[CONNECTIONS_HARD_MAX];
    size_t n_connections;
    struct text *newest; /* NULL: it is not being sent any more */
    size_t n_texts;
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

static void text_free(void *data)
{
    struct text *text = data;

    if (text->server->newest == text)
        text->server->newest = NULL;
    text->server->n_texts--;
    free(text->bytes);
    free(text);
}

static char *render_text(const struct metrics_server *server, size_t *ret_length)
{
    char *bytes = NULL;
    FILE *stream = open_memstream(&bytes, ret_length);
    int r = stream ? server->render(stream, server->data) : -ENOMEM;

    if (stream && fclose(stream) == 0 && r == 0)
        return bytes;
    free(bytes);
    return NULL;
}

/* @return new metrics, or NULL without memory */
static struct text *text_new(struct metrics_server *server)
{
    struct text *text = calloc(1, sizeof(*text));
    size_t length = 0;

    if (!text)
        return NULL;
    *text = (struct text){.server = server, .made_ns = now_ns()};
    text->bytes = render_text(server, &length);
    if (text->bytes)
        text->response = MHD_create_response_from_buffer_with_free_callback_cls(length, text->bytes,
                                                                                text_free, text);
    if (!text->response) {
        free(text->bytes);
        free(text);
        return NULL;
    }
    MHD_add_response_header(text->response, MHD_HTTP_HEADER_CONTENT_TYPE, CONTENT_TYPE_METRICS);
    server->n_texts++;
    return text;
}

static void close_older_connections(const struct metrics_server *server, int fd)
{
    for (size_t i = 0; i < server->n_connections && server->connections[i] != fd; i++)
        shutdown(server->connections[i], SHUT_RDWR);
}

static bool is_new(const struct text *text)
{
    return text && now_ns() - text->made_ns < TEXT_SHARED_NS;
}

/* MHD_NO closes the connection. */
static enum MHD_Result answer_metrics(struct metrics_server *server,
                                      struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    enum MHD_Result result;

    if (is_new(server->newest))
        return MHD_queue_response(connection, MHD_HTTP_OK, server->newest->response);
    if (server->n_texts >= TEXTS_MAX && info)
        close_older_connections(server, info->connect_fd);
    server->newest = text_new(server);
    if (!server->newest)
        return MHD_NO;
    result = MHD_queue_response(connection, MHD_HTTP_OK, server->newest->response);
    MHD_destroy_response(server->newest->response); /* it lives on until it has been sent */
    return result;
}

static bool method_answered(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

/* A short answer. @return NULL without memory */
static struct MHD_Response *make_response(const char *url, const char *method, unsigned *ret_status)
{
    struct MHD_Response *response;

    if (strcmp(url, METRICS) != 0 && strcmp(url, "/") != 0) {
        *ret_status = MHD_HTTP_NOT_FOUND;
        return text_response("not found; the metrics are at " METRICS "\n");
    }
    if (method_answered(method)) {
        *ret_status = MHD_HTTP_OK;
        return text_response("virtjoule: the metrics are at " METRICS "\n");
    }
    *ret_status = MHD_HTTP_METHOD_NOT_ALLOWED;
    response = text_response("only GET and HEAD are answered\n");
    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    return response;
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
    if (method_answered(method) && strcmp(url, METRICS) == 0)
        return answer_metrics(data, connection);
    response = make_response(url, method, &status);
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
