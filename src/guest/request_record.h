/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RECORD_METHOD_MAX 16
#define RECORD_TARGET_MAX 256

/**
 * One request that has ended, as the access log and the metrics tell it. The
 * texts are the client's bytes, whatever they are: not NUL-terminated.
 */
struct request_record {
    uint64_t end_ns;      /* CLOCK_REALTIME */
    uint64_t duration_ns; /* from its first byte to the last of its response */
    uint64_t cpu_ns;      /* that was bound to it */
    uint64_t energy_uj;   /* body streaming included */
    uint16_t status;      /* 0: there was no response */
    uint8_t method_length;
    uint16_t target_length; /* at most RECORD_TARGET_MAX, then the target is cut */
    bool target_cut;
    char method[RECORD_METHOD_MAX];
    char target[RECORD_TARGET_MAX];
};
