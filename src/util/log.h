/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Structured log lines on standard error:
 *
 *     warning: zone unreadable zone=core path="/sys/.../energy_uj" error="Permission denied"
 *
 * The message is constant text; every variable goes into a field, quoted where
 * it holds anything but plain characters, so that a VM's name can neither
 * break a line nor forge one. Under the service manager each line carries the
 * <N> priority prefix of sd-daemon(3) instead of the level's name.
 */

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h>

/** One field of a log line. Use the F_* constructors. */
struct log_field {
    const char *key;
    enum { LOG_FIELD_STRING, LOG_FIELD_INTEGER, LOG_FIELD_UNSIGNED } type;
    union {
        const char *string;
        int64_t integer;
        uint64_t number;
    };
};

#define F_STRING(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STRING, .string = (v)})
#define F_INT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_INTEGER, .integer = (v)})
#define F_UINT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_UNSIGNED, .number = (v)})
/** An errno as text; a negative errno is accepted as well. */
#define F_ERROR(e) F_STRING("error", log_errno_text(e))

/**
 * Writes one line of at most 2 KiB (longer values are cut). Never waits: a line
 * that a full pipe does not take is lost, and the next line that it takes is
 * preceded by one with the number of lost lines.
 * @param level   LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG of syslog(3)
 * @param fields  terminated by a field whose key is NULL
 */
void log_fields(int level, const char *message, const struct log_field *fields);

/** Text of an errno (either sign); thread-safe. */
const char *log_errno_text(int error);

/** Lines above this level are dropped; the default is LOG_INFO. */
void log_set_max_level(int level);

#define LOG_WITH_FIELDS(level, message, ...)                                                       \
    log_fields((level), (message), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})
#define log_error(message, ...) LOG_WITH_FIELDS(LOG_ERR, message, __VA_ARGS__)
#define log_warning(message, ...) LOG_WITH_FIELDS(LOG_WARNING, message, __VA_ARGS__)
#define log_info(message, ...) LOG_WITH_FIELDS(LOG_INFO, message, __VA_ARGS__)
#define log_debug(message, ...) LOG_WITH_FIELDS(LOG_DEBUG, message, __VA_ARGS__)
