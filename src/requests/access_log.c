/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/access_log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/utf8.h"

/* Bytes of lines that are held back, for one write of many lines. */
#define HELD_BACK_MAX ((size_t)65536)

struct access_log {
    char *path;
    uint64_t max_bytes;
    uint64_t file_bytes; /* in the file, without those held back */
    uint64_t dropped;
    int fd;
    int error; /* the last that was logged, or 0 */
    bool full; /* and that was logged */
    size_t length;
    size_t lines; /* in it */
    char held_back[HELD_BACK_MAX];
};

struct text {
    char *bytes;
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    text->length += (size_t)vsnprintf(text->bytes + text->length,
                                      ACCESS_LOG_LINE_MAX - text->length, format, arguments);
    va_end(arguments);
}

/* @return how many bytes need no escape in a JSON string */
static size_t plain_length(const char *bytes, size_t length)
{
    size_t n = 0;

    while (n < length && bytes[n] >= ' ' && bytes[n] < 0x7f && bytes[n] != '"' && bytes[n] != '\\')
        n++;
    return n;
}

/* Adds a JSON string (RFC 8259, section 7) of any bytes; DEL and C1 controls are escaped, too. */
static void add_string(struct text *text, const char *bytes, size_t length)
{
    add(text, "\"");
    for (size_t i = 0; i < length;) {
        size_t plain = plain_length(bytes + i, length - i);
        size_t n = plain ?: utf8_character_length(bytes + i, length - i);
        unsigned char c = (unsigned char)bytes[i];

        if (n == 0)
            add(text, UTF8_REPLACEMENT);
        else if (c == '"' || c == '\\')
            add(text, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            add(text, "\\u%04x", c);
        else if (n == 2 && c == 0xc2 && (unsigned char)bytes[i + 1] < 0xa0)
            add(text, "\\u%04x", (unsigned char)bytes[i + 1]);
        else
            add(text, "%.*s", (int)n, bytes + i);
        i += n ? n : 1;
    }
    add(text, "\"");
}

static void add_time(struct text *text, uint64_t time_ns)
{
    time_t seconds = (time_t)(time_ns / NSEC_PER_SEC);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    add(text, "\"%04d-%02d-%02dT%02d:%02d:%02d.%06" PRIu64 "Z\"", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, time_ns % NSEC_PER_SEC / NSEC_PER_USEC);
}

size_t access_log_format(const struct request_record *request, char line[ACCESS_LOG_LINE_MAX])
{
    struct text text = {.bytes = line};

    assert(request->path_length <= RECORD_PATH_MAX && request->method_length <= RECORD_METHOD_MAX);
    add(&text, "{\"time\":");
    add_time(&text, request->end_ns);
    add(&text, ",\"method\":");
    add_string(&text, request->method, request->method_length);
    add(&text, ",\"path\":");
    add_string(&text, request->path, request->path_length);
    add(&text, ",\"status\":%u,\"duration_us\":%" PRIu64 ",\"cpu_us\":%" PRIu64, request->status,
        request->duration_ns / NSEC_PER_USEC, request->cpu_ns / NSEC_PER_USEC);
    if (request->has_header)
        add(&text, ",\"header_uj\":%" PRIu64, request->header_uj);
    add(&text, ",\"energy_uj\":%" PRIu64 "}\n", request->energy_uj);
    return text.length;
}

static int open_file(const char *path, uint64_t *ret_bytes)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
    struct stat status;

    if (fd < 0)
        return -errno;
    *ret_bytes = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
    return fd;
}

int access_log_new(struct access_log **ret, const char *path, uint64_t max_bytes)
{
    struct access_log *log = calloc(1, sizeof(*log));
    int r = -ENOMEM;

    if (!log)
        return r;
    log->fd = -1;
    log->max_bytes = max_bytes;
    log->path = strdup(path);
    if (log->path)
        r = log->fd = open_file(path, &log->file_bytes);
    if (r < 0) {
        log_error("access log cannot be opened", F_STRING("file", path), F_ERROR(r));
        access_log_free(log);
        return r;
    }
    *ret = log;
    return 0;
}

/* Where a disk is full or a pipe has no reader, lines are lost and the daemon goes on. */
static void fail(struct access_log *log, int error)
{
    log->dropped += log->lines;
    if (log->error != error)
        log_warning("access log cannot be written, lines are dropped", F_STRING("file", log->path),
                    F_ERROR(error));
    log->error = error;
}

void access_log_flush(struct access_log *log)
{
    size_t written = 0;

    while (written < log->length) {
        ssize_t n = write(log->fd, log->held_back + written, log->length - written);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fail(log, errno);
            break;
        }
        written += (size_t)n;
        log->file_bytes += (uint64_t)n;
        log->error = 0;
    }
    log->length = log->lines = 0;
}

void access_log_add(struct access_log *log, const struct request_record *request)
{
    char line[ACCESS_LOG_LINE_MAX];
    size_t length = access_log_format(request, line);

    if (length > HELD_BACK_MAX - log->length)
        access_log_flush(log);
    if (log->max_bytes > 0 && log->file_bytes + log->length + length > log->max_bytes) {
        log->dropped++;
        if (!log->full)
            log_warning("access log is full, lines are dropped until it is rotated",
                        F_STRING("file", log->path), F_UINT("max_bytes", log->max_bytes));
        log->full = true;
        return;
    }
    memcpy(log->held_back + log->length, line, length);
    log->length += length;
    log->lines++;
}

void access_log_reopen(struct access_log *log)
{
    uint64_t bytes = 0;
    int fd;

    access_log_flush(log);
    fd = open_file(log->path, &bytes);
    if (fd < 0) {
        log_warning("access log cannot be reopened", F_STRING("file", log->path), F_ERROR(fd));
        return;
    }
    close(log->fd);
    log->fd = fd;
    log->file_bytes = bytes;
    log->full = false;
}

uint64_t access_log_dropped(const struct access_log *log)
{
    return log->dropped;
}

struct access_log *access_log_free(struct access_log *log)
{
    if (!log)
        return NULL;
    if (log->fd >= 0) {
        access_log_flush(log);
        close(log->fd);
    }
    free(log->path);
    free(log);
    return NULL;
}
