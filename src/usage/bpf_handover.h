/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The eBPF programs in the service manager's descriptor store, where they
 * outlive the daemon: the kernel goes on counting while none runs.
 *
 *     links, maps --SCM_RIGHTS--> socket --FDSTORE=1--> service manager --LISTEN_FDS--> next daemon
 *
 * One descriptor goes there, a socket in which one message waits: what the
 * programs are, and the descriptors of all of them. So a set is whole or not
 * there, and in order. Every successor only peeks at the message, which leaves
 * it for the next. Nothing is pinned: once nobody holds the socket, the kernel
 * detaches and forgets all of it.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/descriptors.h"

/** What a set of programs is. Only programs that are the same can be continued. */
struct bpf_set {
    uint64_t object; /* hash of the object that was loaded: programs and layout of the maps */
    uint64_t id;     /* CLOCK_MONOTONIC of its loading: of which set a saved state tells */
    uint32_t n_cpus;
    uint32_t n_sockets;
    uint32_t processes_max;
    uint32_t counters_in_use;
};

/**
 * Hands a set to the service manager, in place of any other.
 * @param fds  n of them; remain the caller's
 * @return 0, -ENOTCONN without a service manager, or another negative errno
 */
int bpf_handover_keep(const struct bpf_set *set, const int *fds, size_t n);

/**
 * Takes the set that the service manager hands over.
 * @param fds  gets n descriptors, the caller's; after a failure it is as it was
 * @return 0; -ENOENT: there is none; -EBADMSG: what is there is no set of n descriptors
 */
int bpf_handover_take(struct descriptors *descriptors, struct bpf_set *ret, int *fds, size_t n);

/** The service manager gives up what it keeps: programs of which nobody knows what they counted. */
void bpf_handover_forget(void);
