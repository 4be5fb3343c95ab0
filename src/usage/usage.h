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
#include "source/zone.h"
#include "util/buffer.h"
#include "util/descriptors.h"

/** What one entity consumed on one socket. */
struct usage_socket {
    uint64_t cpu_ns;   /* CPU time; guest time counted once */
    uint64_t corun_ns; /* the part of it during which the SMT sibling was busy as well */
    uint64_t cycles;   /* PMU counts, valid where usage.features has their bit */
    uint64_t instructions;
    uint64_t llc_misses;
    uint64_t memory_bytes; /* resident on the socket's NUMA nodes at the end of the interval,
                              shared memory and huge pages included */
};

/** What one entity consumed. */
struct usage_amount {
    struct usage_socket sockets[PACKAGES_MAX];
    uint64_t io_bytes; /* read from and written to block devices */
};

/** The counts that a provider may add to CPU time, memory and I/O. A missing count is 0 everywhere.
 */
enum usage_feature {
    USAGE_CORUN = 1u << 0,
    USAGE_CYCLES = 1u << 1,
    USAGE_INSTRUCTIONS = 1u << 2,
    USAGE_LLC_MISSES = 1u << 3,
};

struct usage_vm {
    uuid_t uuid;
    struct usage_amount amount;
};

/** One interval. The VMs are sorted by UUID; a VM that ended within the interval is among them. */
struct usage {
    unsigned n_sockets;
    unsigned features;        /* bit per enum usage_feature */
    struct usage_amount host; /* everything outside VMs, the kernel included */
    struct usage_vm *vms;
    size_t n_vms;
    size_t n_unlisted; /* processes of VMs that count to the host for want of room */
};

/** Frees the usage's memory and empties it. */
void usage_deinit(struct usage *usage);

/**
 * Gives an empty usage its VMs, each with an amount of zeros.
 * @param uuids  n of them, in any order, any number of times each; sorted on return
 * @return 0 or -ENOMEM
 */
int usage_init_vms(struct usage *usage, uuid_t *uuids, size_t n);

/** The amount of a VM, NULL when it is not among the usage's. O(log n). */
struct usage_amount *usage_find_amount(struct usage *usage, const uuid_t uuid);

/**
 * Moves CPU time that the host spent for a VM, by socket, from the host's
 * amount to the VM's, at most the host's amount. No-op for a VM that is not in the
 * usage.
 */
void usage_charge(struct usage *usage, const uuid_t uuid, const uint64_t cpu_ns[PACKAGES_MAX]);

/** How many entities share the energy: the host and the VMs. */
static inline size_t usage_n_entities(const struct usage *usage)
{
    return usage->n_vms + 1;
}

/** The amount of an entity: 0 is the host, i > 0 is vms[i - 1]. */
static inline const struct usage_amount *usage_entity(const struct usage *usage, size_t i)
{
    return i == 0 ? &usage->host : &usage->vms[i - 1].amount;
}

/** What was consumed on one socket (0 to PACKAGES_MAX - 1), or on all of them (-1). */
struct usage_socket usage_on_socket(const struct usage_amount *amount, int socket);

struct usage_provider;

/** The functions of a usage provider. One file implements one provider. */
struct usage_provider_ops {
    const char *name; /* "procfs", "bpf" */

    /**
     * Usage since the previous call, or since the VM's start where that is later.
     * @return 0 or a negative errno (out of memory); the previous state then stays
     */
    int (*sample)(struct usage_provider *provider, const struct vm_table *vms, struct usage *ret);

    /** A descriptor that turns readable when a VM's process ends. Optional. */
    int (*event_fd)(const struct usage_provider *provider);

    /** Takes the last CPU time of processes that ended. Optional, together with event_fd. */
    void (*dispatch)(struct usage_provider *provider);

    /**
     * The processes that discovery must examine since the previous call.
     * Optional: without it, discovery examines all processes.
     * @param ret  valid until the next call
     */
    void (*take_changes)(struct usage_provider *provider, struct process_changes *ret);

    /**
     * Appends the state of the last sample, from which the provider of the next
     * daemon continues (usage_state.h).
     * @return 0 or -ENOMEM
     */
    int (*save)(const struct usage_provider *provider, struct buffer *ret);

    void (*free)(struct usage_provider *provider);
};

/** The common head of every provider; implementations embed it first. */
struct usage_provider {
    const struct usage_provider_ops *ops;
    bool continues; /* the first sample covers the time since a former daemon's last one */
};

/** The state that a former daemon left for a new provider; all zero: none. */
struct usage_former {
    const void *state; /* usage_state.h; NULL: none */
    size_t state_size;
    uint64_t time_ns;                /* CLOCK_MONOTONIC at which its last interval ended */
    struct descriptors *descriptors; /* of the service manager; NULL: none */
};

/** Frees the provider; NULL is accepted. @return NULL */
struct usage_provider *usage_provider_free(struct usage_provider *provider);
