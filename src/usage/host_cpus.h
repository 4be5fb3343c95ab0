/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The host's CPUs: their sockets, their busy time, and the part of it outside VMs.
 */

#include "host/topology.h"
#include "usage/usage.h"
#include "util/buffer.h"

struct host_cpus;

/**
 * @param proc_root   "/proc", or a directory laid out like it
 * @param sysfs_root  where the CPUs' sockets are read from
 * @return 0 or a negative errno; logged
 */
int host_cpus_new(struct host_cpus **ret, const char *proc_root, const char *sysfs_root);
struct host_cpus *host_cpus_free(struct host_cpus *cpus);

/** The CPUs that are or may come online. Its contents change when CPUs come online. */
const struct topology *host_cpus_topology(const struct host_cpus *cpus);

/** Highest socket number of a CPU + 1. */
unsigned host_cpus_n_sockets(const struct host_cpus *cpus);

/** Whether all CPUs are online, as of the last update. */
bool host_cpus_all_online(const struct host_cpus *cpus);

/**
 * Reads the CPUs' busy time.
 * @return 1 when CPUs came online since the last call, 0 when none did, or a negative errno
 */
int host_cpus_update(struct host_cpus *cpus);

/** Whether a CPU was busy for most of the time since the last take, as of the last update. */
bool host_cpus_was_busy(const struct host_cpus *cpus, size_t cpu);

/** Appends the state as of the last take, for host_cpus_restore(). @return 0 or -ENOMEM */
int host_cpus_save(const struct host_cpus *cpus, struct buffer *ret);

/**
 * Continues from a state that a former process saved: the next take covers the
 * time since.
 * @param bytes  untrusted; the state is taken from it
 * @return 0, or -EBADMSG, then nothing has changed; -ENOMEM
 */
int host_cpus_restore(struct host_cpus *cpus, struct bytes *bytes);

/**
 * Gives the host the busy time between the last two updates, less the VMs'.
 * The two are measured by different means, a few ticks apart: a negative rest
 * is subtracted from the next interval, not clipped.
 */
void host_cpus_take(struct host_cpus *cpus, struct usage *usage);
