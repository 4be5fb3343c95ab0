/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The known pieces of work that the workload server does:
 *
 *     /cpu?iters=N     N rounds of arithmetic: the work is proportional to N
 *     /json?items=N    a JSON array of N objects, built and printed
 *     /compress?kb=N   N KiB of text, compressed
 *     /file?kb=N       N KiB of a file, by sendfile
 *     /post?kb=N       the body that is sent (N is the client's), summed up
 */

#include "http_head.h"

/** Limits of N. */
#define WORK_ITERS_MAX UINT64_C(10000000000)
#define WORK_ITEMS_MAX UINT64_C(1000000)
#define WORK_KB_MAX UINT64_C(131072)

/** What a request asks for. */
struct work {
    enum work_kind { WORK_NONE, WORK_CPU, WORK_JSON, WORK_COMPRESS, WORK_FILE, WORK_POST } kind;
    uint64_t n;
};

/**
 * Takes a request's target apart.
 * @return 0; -ENOENT: no such path; -EINVAL or -ERANGE: no such number
 */
int work_parse(struct slice target, struct work *ret);

/**
 * Does the work of a kind whose answer is a text.
 * @param ret  to be freed
 * @return 0 or -ENOMEM
 */
int work_do(const struct work *work, char **ret, size_t *ret_length);

/** The sum that /post answers with, of the sum so far and more bytes (FNV-1a, 64 bit). */
uint64_t work_sum(uint64_t sum, const char *bytes, size_t length);
#define WORK_SUM_START UINT64_C(0xcbf29ce484222325)

/** A file that holds as much as /file can ask for. @return the caller's, or a negative errno */
int work_file_open(void);
