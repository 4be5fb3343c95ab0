/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What each VM and the rest of the host consumed in one interval.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"

#define SOCKETS_MAX 16

/** What one entity consumed. */
struct usage_amount {
    uint64_t cpu_ns[SOCKETS_MAX]; /* CPU time on each socket; guest time counted once */
    uint64_t memory_bytes;        /* resident at the end of the interval, shared memory and
                                     huge pages included */
    uint64_t io_bytes;            /* read from and written to block devices */
};

struct usage_vm {
    uuid_t uuid;
    struct usage_amount amount;
};

/** One interval. The VMs are sorted by UUID; a VM that ended within the interval is among them. */
struct usage {
    unsigned n_sockets;
    struct usage_amount host; /* all that is no VM's, the kernel included */
    struct usage_vm *vms;
    size_t n_vms;
};

/** Releases what the usage holds and empties it. */
void usage_deinit(struct usage *usage);

struct usage_provider;

/** What a provider of usage must do. One file implements it per provider. */
struct usage_provider_ops {
    const char *name; /* "procfs", "bpf" */

    /**
     * Usage since the previous call, or since the VM's start where that is later.
     * @return 0 or a negative errno (out of memory); the previous state then stays
     */
    int (*sample)(struct usage_provider *provider, const struct vm_table *vms, struct usage *ret);

    /** A descriptor that turns readable when a VM's process ends, or -1. */
    int (*event_fd)(const struct usage_provider *provider);

    /** Takes the last CPU time of processes that ended. */
    void (*dispatch)(struct usage_provider *provider);

    void (*free)(struct usage_provider *provider);
};

/** The common head of every provider; implementations embed it first. */
struct usage_provider {
    const struct usage_provider_ops *ops;
};

/** Frees the provider; NULL is accepted. @return NULL */
struct usage_provider *usage_provider_free(struct usage_provider *provider);
