/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The access log: one line of JSON per request.
 *
 *     {"time":"2025-01-31T12:00:00.123456Z","method":"GET","path":"/x","status":200,
 *      "duration_us":1520,"cpu_us":900,"header_uj":4500,"energy_uj":4711}
 *
 * The client's bytes are escaped: a line is one line, and its text is valid UTF-8.
 * The path is given without its query, RECORD_PATH_MAX bytes at most. header_uj is
 * what the response's header reported; it is missing where the response was left as
 * it is.
 */

#include <stddef.h>
#include <stdint.h>

#include "requests/request_record.h"

/** Longest line: every byte of the path may become a replacement of three. */
#define ACCESS_LOG_LINE_MAX (RECORD_PATH_MAX * 6 + RECORD_METHOD_MAX * 6 + 256)

/** Writes a request's line, newline included. @return its length, at most ACCESS_LOG_LINE_MAX - 1
 */
size_t access_log_format(const struct request_record *request, char line[ACCESS_LOG_LINE_MAX]);

struct access_log;

/**
 * Opens the file to append to, making it (0640) where there is none.
 * @param max_bytes  of the file: lines that do not fit are dropped and counted; 0: no limit
 * @return 0 or a negative errno
 */
int access_log_new(struct access_log **ret, const char *path, uint64_t max_bytes);

/** Adds a request's line, which access_log_flush() writes at the latest. */
void access_log_add(struct access_log *log, const struct request_record *request);

/** Writes the lines that are held back. To be called once in a tick, and at the end. */
void access_log_flush(struct access_log *log);

/**
 * Opens the file anew, as after a rotation: lines added before go to the old
 * file. A failure is logged, and the old file stays.
 */
void access_log_reopen(struct access_log *log);

/** Lines that were dropped because the file is full or could not be written. */
uint64_t access_log_dropped(const struct access_log *log);

/** Flushes; NULL is accepted. @return NULL */
struct access_log *access_log_free(struct access_log *log);
