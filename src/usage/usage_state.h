/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How far a provider had counted at the end of an interval, as bytes: the base
 * from which its successor in the next process counts on.
 *
 *     head | what the provider appends
 *
 * It is of use only together with a ledger that ends with the same interval:
 * energy and usage then begin at the same moment, and what was used while no
 * daemon ran is in the first interval of the next one. What cannot be read is
 * done without; so the format may change with any version.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/buffer.h"

/* To be raised with any change to what any provider appends. */
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

/** Begins a state in the buffer, whose content it replaces. @return 0 or -ENOMEM */
int usage_state_begin(struct buffer *buffer, const char *provider, uint64_t time_ns);

/** Completes it. */
void usage_state_seal(struct buffer *buffer);

/**
 * Checks a state's head.
 * @param bytes     aligned for uint64_t; untrusted; may be more than the state
 * @param provider  whose it has to be
 * @param time_ns   of which interval's end
 * @param ret       what the provider had appended
 * @return 0; -ENOMSG: no state; -EPROTONOSUPPORT: of another version; -EBADMSG:
 *         cut off or damaged; -ESTALE: of another provider or interval
 */
int usage_state_open(const void *bytes, size_t size, const char *provider, uint64_t time_ns,
                     struct bytes *ret);
