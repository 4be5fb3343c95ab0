/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A provider's counts at the end of an interval, as bytes: the base from which
 * the provider of the next daemon continues.
 *
 *     head | the provider's own bytes
 *
 * The state is valid only together with a ledger that ends with the same interval:
 * energy and usage then begin at the same moment, and the usage while no daemon
 * ran falls into the first interval of the next one. A daemon works without a state
 * that it cannot read; so the format may change with any version.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

/* Raise it with any change to any provider's bytes. */
#define USAGE_STATE_VERSION 1

struct usage_state_head {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    uint64_t checksum; /* XXH3-64 of all bytes that follow it */
    uint64_t size;     /* of all, this head included */
    uint64_t time_ns;  /* CLOCK_MONOTONIC of the interval's end */
    char provider[16];
};

/** Begins a state in the buffer; earlier content is dropped. @return 0 or -ENOMEM */
int usage_state_begin(struct buffer *buffer, const char *provider, uint64_t time_ns);

/** Completes the state: enters size and checksum. */
void usage_state_seal(struct buffer *buffer);

/**
 * Checks a state's head.
 * @param bytes     aligned for uint64_t; untrusted; may be more than the state
 * @param provider  the name that the head must have
 * @param time_ns   the interval's end that the head must have
 * @param ret       the provider's own bytes
 * @return 0; -ENOMSG: no state; -EPROTONOSUPPORT: of another version; -EBADMSG:
 *         cut off or damaged; -ESTALE: of another provider or interval
 */
int usage_state_open(const void *bytes, size_t size, const char *provider, uint64_t time_ns,
                     struct bytes *ret);
