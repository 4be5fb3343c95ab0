/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_head.h"
#include "work.h"

#define INPUT_MAX ((size_t)65536)
#define HEAD_MAX 256

struct connection {
    int fd;
    int file;
    bool close;      /* after the response */
    bool responding; /* there is something to send */
    bool upgraded;   /* to nothing: what comes is thrown away */
    size_t n_input;
    uint64_t body_left; /* of the request */
    uint64_t body_length;
    uint64_t body_sum;

    /* The response: its head, then a text or a part of the file. */
    size_t head_length, body_text_length, sent;
    char *body_text;
    off_t file_offset, file_end;
    char head[HEAD_MAX];
    char input[INPUT_MAX];
};

struct connection *connection_new(int fd, int file)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    int one = 1;

    /* As servers do: an answer does not wait until the one before is acknowledged. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (!connection) {
        close(fd);
        return NULL;
    }
    connection->fd = fd;
    connection->file = file;
    return connection;
}

int connection_fd(const struct connection *connection)
{
    return connection->fd;
}

struct connection *connection_free(struct connection *connection)
{
    if (!connection)
        return NULL;
    close(connection->fd);
    free(connection->body_text);
    free(connection);
    return NULL;
}

static void begin_response(struct connection *connection, const char *status, uint64_t length)
{
    connection->head_length = (size_t)snprintf(
        connection->head, HEAD_MAX,
        "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %" PRIu64 "\r\n%s\r\n", status,
        length, connection->close ? "Connection: close\r\n" : "");
    connection->sent = 0;
    connection->responding = true;
}

static void respond_text(struct connection *connection, const char *status, char *text)
{
    connection->body_text = text;
    connection->body_text_length = text ? strlen(text) : 0;
    begin_response(connection, status, connection->body_text_length);
}

static void refuse(struct connection *connection, const char *status)
{
    connection->close = true;
    respond_text(connection, status, NULL);
}

static void upgrade(struct connection *connection)
{
    connection->head_length = (size_t)snprintf(
        connection->head, HEAD_MAX,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n");
    connection->sent = 0;
    connection->responding = connection->upgraded = true;
}

static void do_work(struct connection *connection, const struct work *work)
{
    char *text = NULL;
    size_t length;

    if (work->kind == WORK_FILE) {
        connection->file_offset = 0;
        connection->file_end = (off_t)(work->n * 1024);
        begin_response(connection, "200 OK", work->n * 1024);
    } else if (work_do(work, &text, &length) == 0) {
        respond_text(connection, "200 OK", text);
    } else {
        refuse(connection, "500 Internal Server Error");
    }
}

/* The request line and what of the fields matters. */
static void handle_request(struct connection *connection, struct slice head)
{
    const char *blank = memchr(head.text, ' ', head.length);
    struct slice method = {head.text, blank ? (size_t)(blank - head.text) : 0};
    const char *end =
        blank ? memmem(blank, head.length - method.length, " HTTP/1.1\r\n", 11) : NULL;
    struct work work = {0};
    int r;

    if (http_field(head, "Upgrade").text) {
        upgrade(connection);
        return;
    }
    connection->close = http_field_has(head, "Connection", "close");
    if (!end || end == blank || http_field(head, "Transfer-Encoding").text) {
        refuse(connection, "400 Bad Request");
        return;
    }
    r = work_parse((struct slice){blank + 1, (size_t)(end - blank - 1)}, &work);
    if (r < 0) {
        refuse(connection, r == -ENOENT ? "404 Not Found" : "400 Bad Request");
        return;
    }
    r = http_content_length(head, &connection->body_length);
    if (r == -ENOENT)
        connection->body_length = 0;
    if ((r < 0 && r != -ENOENT) || (work.kind != WORK_POST && connection->body_length > 0) ||
        !slice_is(method, work.kind == WORK_POST ? "POST" : "GET")) {
        refuse(connection, "400 Bad Request");
        return;
    }
    if (work.kind != WORK_POST) {
        do_work(connection, &work);
        return;
    }
    connection->body_left = connection->body_length;
    connection->body_sum = WORK_SUM_START;
}

static void take(struct connection *connection, size_t length)
{
    connection->n_input -= length;
    memmove(connection->input, connection->input + length, connection->n_input);
}

static void end_body(struct connection *connection)
{
    char *text;

    if (asprintf(&text, "%" PRIu64 " %016" PRIx64 "\n", connection->body_length,
                 connection->body_sum) < 0)
        refuse(connection, "500 Internal Server Error");
    else
        respond_text(connection, "200 OK", text);
}

/* Takes what it can of the input. @return false: more is needed */
static bool take_input(struct connection *connection)
{
    size_t length;

    if (connection->upgraded) {
        take(connection, connection->n_input);
        return connection->responding;
    }
    if (connection->body_left > 0) {
        length = connection->n_input < connection->body_left ? connection->n_input
                                                             : (size_t)connection->body_left;
        connection->body_sum = work_sum(connection->body_sum, connection->input, length);
        connection->body_left -= length;
        take(connection, length);
    } else {
        length = http_head_length(connection->input, connection->n_input);
        if (length == 0) {
            if (connection->n_input == INPUT_MAX)
                refuse(connection, "431 Request Header Fields Too Large");
            return connection->responding;
        }
        handle_request(connection, (struct slice){connection->input, length});
        take(connection, length);
    }
    if (!connection->responding && connection->body_left == 0)
        end_body(connection);
    return connection->responding || connection->n_input > 0;
}

/* @return bytes, or -errno */
static ssize_t send_some(struct connection *connection)
{
    size_t body_sent;
    ssize_t n;

    if (connection->sent < connection->head_length) {
        int more =
            connection->body_text_length > 0 || connection->file_offset < connection->file_end
                ? MSG_MORE
                : 0;

        n = send(connection->fd, connection->head + connection->sent,
                 connection->head_length - connection->sent, MSG_NOSIGNAL | more);
    } else if (connection->file_offset < connection->file_end) {
        n = sendfile(connection->fd, connection->file, &connection->file_offset,
                     (size_t)(connection->file_end - connection->file_offset));
    } else {
        body_sent = connection->sent - connection->head_length;
        n = send(connection->fd, connection->body_text + body_sent,
                 connection->body_text_length - body_sent, MSG_NOSIGNAL);
    }
    return n < 0 ? -errno : n;
}

static bool all_sent(const struct connection *connection)
{
    return connection->sent >= connection->head_length + connection->body_text_length &&
           connection->file_offset == connection->file_end;
}

/* @return CONNECTION_READ when the response is all sent */
static enum connection_wants send_response(struct connection *connection)
{
    while (!all_sent(connection)) {
        bool file = connection->sent >= connection->head_length &&
                    connection->file_offset < connection->file_end;
        ssize_t n = send_some(connection);

        if (n == -EAGAIN)
            return CONNECTION_WRITE;
        if (n <= 0 && n != -EINTR)
            return CONNECTION_CLOSE;
        if (n > 0 && !file)
            connection->sent += (size_t)n;
    }
    free(connection->body_text);
    connection->body_text = NULL;
    connection->body_text_length = 0;
    connection->file_offset = connection->file_end = 0;
    connection->responding = false;
    return connection->close ? CONNECTION_CLOSE : CONNECTION_READ;
}

/* @return bytes, 0 at the end, or -errno */
static ssize_t receive(struct connection *connection)
{
    ssize_t n = recv(connection->fd, connection->input + connection->n_input,
                     INPUT_MAX - connection->n_input, 0);

    if (n < 0)
        return -errno;
    connection->n_input += (size_t)n;
    return n;
}

enum connection_wants connection_run(struct connection *connection)
{
    for (;;) {
        enum connection_wants wants;
        ssize_t n;

        if (connection->responding) {
            wants = send_response(connection);
            if (wants != CONNECTION_READ)
                return wants;
        }
        if (connection->n_input > 0 && take_input(connection))
            continue;
        n = receive(connection);
        if (n == -EAGAIN)
            return CONNECTION_READ;
        if (n <= 0 && n != -EINTR)
            return CONNECTION_CLOSE;
    }
}
