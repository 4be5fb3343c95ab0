/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static atomic_int max_level = LOG_INFO;
static atomic_uint n_lost; /* lines, since the last one that was written */

struct line {
    char text[LINE_MAX_BYTES];
    size_t length;
};

static void line_add(struct line *line, const char *text)
{
    /* One byte is kept for the newline. */
    while (*text && line->length < sizeof(line->text) - 1)
        line->text[line->length++] = *text++;
}

static bool is_plain(const char *value)
{
    if (!*value)
        return false;
    for (; *value; value++)
        if ((unsigned char)*value <= ' ' || (unsigned char)*value >= 0x7f ||
            strchr("\"\\=", *value))
            return false;
    return true;
}

static void line_add_string(struct line *line, const char *value)
{
    if (is_plain(value)) {
        line_add(line, value);
        return;
    }
    line_add(line, "\"");
    for (; *value; value++) {
        unsigned char c = (unsigned char)*value;
        char escaped[8];

        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof(escaped), "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            snprintf(escaped, sizeof(escaped), "\\x%02x", c);
        else
            snprintf(escaped, sizeof(escaped), "%c", c);
        line_add(line, escaped);
    }
    line_add(line, "\"");
}

static void line_add_field(struct line *line, const struct log_field *field)
{
    char number[32];

    line_add(line, " ");
    line_add(line, field->key);
    line_add(line, "=");
    switch (field->type) {
    case LOG_FIELD_STRING:
        line_add_string(line, field->string ? field->string : "");
        break;
    case LOG_FIELD_INTEGER:
        snprintf(number, sizeof(number), "%" PRIi64, field->integer);
        line_add(line, number);
        break;
    case LOG_FIELD_UNSIGNED:
        snprintf(number, sizeof(number), "%" PRIu64, field->number);
        line_add(line, number);
        break;
    }
}

/* If the log's reader is stuck, the line is dropped: no thread waits. */
static bool has_room(void)
{
    struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&log, 1, 0) > 0 && (log.revents & POLLOUT);
}

static void write_line(int level, const char *message, const struct log_field *fields)
{
    static const char *const names[] = {
        [LOG_EMERG] = "error", [LOG_ALERT] = "error",     [LOG_CRIT] = "error",
        [LOG_ERR] = "error",   [LOG_WARNING] = "warning", [LOG_NOTICE] = "info",
        [LOG_INFO] = "info",   [LOG_DEBUG] = "debug",
    };
    struct line line = {0};

    if (getenv("JOURNAL_STREAM")) {
        char prefix[8];

        snprintf(prefix, sizeof(prefix), "<%d>", level);
        line_add(&line, prefix);
    } else {
        line_add(&line, names[level]);
        line_add(&line, ": ");
    }
    line_add(&line, message);
    for (; fields->key; fields++)
        line_add_field(&line, fields);
    line.text[line.length++] = '\n';
    /* One write keeps lines of different threads apart. */
    if (!has_room() || write(STDERR_FILENO, line.text, line.length) < 0)
        atomic_fetch_add(&n_lost, 1);
}

void log_fields(int level, const char *message, const struct log_field *fields)
{
    unsigned lost;

    if (level > atomic_load(&max_level) || level < 0 || level > LOG_DEBUG)
        return;
    if (atomic_load(&n_lost) && has_room()) {
        lost = atomic_exchange(&n_lost, 0);
        write_line(LOG_WARNING, "lines of the log were lost, its reader did not take them",
                   (const struct log_field[]){F_UINT("lines", lost), {0}});
    }
    write_line(level, message, fields);
}

const char *log_errno_text(int error)
{
    const char *text = strerrordesc_np(error < 0 ? -error : error);

    return text ? text : "Unknown error";
}

void log_set_max_level(int level)
{
    atomic_store(&max_level, level);
}
