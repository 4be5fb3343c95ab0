/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The eBPF programs in the service manager's descriptor store, where they
 * outlive the daemon: the kernel goes on counting while none runs.
 *
 *     links, maps --SCM_RIGHTS--> socket --FDSTORE=1--> service manager --LISTEN_FDS--> next daemon
 *
 * One descriptor goes there: a socket that holds one message with the identity of the
 * programs and all their descriptors. So a set is complete and in order, or
 * absent. A successor only peeks at the message, which stays
 * for the next one. Nothing is pinned: when no process holds the socket any more, the kernel
 * detaches the programs and frees the maps.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/descriptors.h"

/** The identity of a set of programs. Only an identical set can be continued. */
struct bpf_set {
    uint64_t object; /* hash of the object that was loaded: programs and layout of the maps */
    uint64_t id;     /* CLOCK_MONOTONIC of its loading: names the set in a saved state */
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
 * @param fds  gets n descriptors, owned by the caller; unchanged after a failure
 * @return 0; -ENOENT: there is none; -EBADMSG: the descriptor is no set of n descriptors
 */
int bpf_handover_take(struct descriptors *descriptors, struct bpf_set *ret, int *fds, size_t n);

/** Has the service manager drop the set: nothing is known about how far it had been counted. */
void bpf_handover_forget(void);
