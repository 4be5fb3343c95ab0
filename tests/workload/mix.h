/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the load generator asks for: weighted requests. A text has one a line:
 *
 *     # weight method target
 *     3 GET /cpu?iters=1000
 *     1 POST /post?kb=64
 */

#include <stddef.h>
#include <stdint.h>

#define MIX_MAX 64
#define MIX_TARGET_MAX 256
#define MIX_METHOD_MAX 8

struct mix {
    size_t n;
    uint64_t weight; /* of all; at most MIX_MAX million */
    struct mix_entry {
        uint64_t weight;     /* 1 to 1000000 */
        uint64_t body_bytes; /* of /post?kb= */
        char method[MIX_METHOD_MAX];
        char target[MIX_TARGET_MAX];
    } entries[MIX_MAX];
};

/**
 * Adds one request of weight 1: POST for /post, else GET.
 * @return 0; -EINVAL: not a target; -ENOSPC
 */
int mix_add(struct mix *mix, const char *target);

/**
 * Adds the requests of a text.
 * @param ret_line  where it is wrong
 * @return 0, -EINVAL or -ENOSPC
 */
int mix_parse(struct mix *mix, const char *text, size_t length, unsigned *ret_line);

/**
 * Adds the requests of a built-in profile: "units" (1, 2, 4 and 8 units of CPU
 * work), "web" (small answers mostly, some large ones).
 * @return 0; -ENOENT; -ENOSPC
 */
int mix_add_profile(struct mix *mix, const char *name);

/** The entry that a random number stands for; there must be one. @return its index */
size_t mix_choose(const struct mix *mix, uint64_t random);
