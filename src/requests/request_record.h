/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RECORD_METHOD_MAX 8
#define RECORD_PATH_MAX 64

/**
 * One request that has ended, as the access log and the metrics report it. The
 * texts are the client's bytes, unchecked and not NUL-terminated.
 */
struct request_record {
    uint64_t end_ns;      /* CLOCK_REALTIME */
    uint64_t duration_ns; /* from the end of its head to the last byte of its response */
    uint64_t cpu_ns;      /* of the tasks while they worked for it */
    uint64_t energy_uj;   /* body streaming included */
    uint64_t header_uj;   /* as the response's header reported it */
    bool has_header;      /* there was such a header */
    uint16_t status;      /* 0: there was no response */
    uint8_t method_length;
    uint8_t path_length; /* at most RECORD_PATH_MAX; the path may be cut there */
    char method[RECORD_METHOD_MAX];
    char path[RECORD_PATH_MAX]; /* without the query */
};
