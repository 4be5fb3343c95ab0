/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An HTTP/1.1 response as it comes in, in pieces of any size (RFC 9112). The
 * body is counted and summed up, not kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_HEAD_MAX 16384

/** Zero-initialised, but for head_request: before every answer. */
struct answer {
    bool head_request; /* the answer to HEAD has no body */

    unsigned status;   /* of the final answer, once its head is there */
    bool has_energy;   /* X-Energy-Score was there, and a decimal number */
    bool energy_wrong; /* X-Energy-Score was there, but is none, or is there twice */
    bool close;        /* the server closes after this answer */
    bool done;         /* all of it is there */
    uint64_t energy_uj;
    uint64_t body_bytes; /* so far */
    uint64_t body_sum;   /* work_sum() of it */

    enum answer_state {
        ANSWER_HEAD,
        ANSWER_LENGTH,     /* a body of known length */
        ANSWER_UNTIL_END,  /* a body up to the end of the connection */
        ANSWER_CHUNK_SIZE, /* lines of a chunked body */
        ANSWER_CHUNK,
        ANSWER_CHUNK_END,
        ANSWER_TRAILER,
    } state;
    uint64_t left;              /* of the body or the chunk */
    size_t n_line;              /* in line */
    char line[ANSWER_HEAD_MAX]; /* the head, or a line of a chunked body */
};

/**
 * Takes in what was received.
 * @param ret_taken  bytes that belong to this answer; fewer than length only if it is done
 * @return 0; -EBADMSG: this is no HTTP/1.1 response; -EMSGSIZE: its head is too long
 */
int answer_take(struct answer *answer, const char *bytes, size_t length, size_t *ret_taken);

/** The connection has ended. @return 0, or -EBADMSG: in the middle of the answer */
int answer_end(struct answer *answer);
