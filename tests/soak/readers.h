/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Readers inside the guests: each finds its VM's tree, keeps a counter open
 * while the VM comes and goes and the daemon restarts, and reads it now and then.
 */

#include "daemon.h"

struct readers;

struct readers *readers_new(void);
void readers_free(struct readers *readers);

/** Some of them read, or open a file, or close it. */
void readers_run(struct readers *readers, const struct soak_daemon *daemon, struct host *host);

/** Lists the mount point and by-name/. */
void readers_list(const struct soak_daemon *daemon);

/** Values read so far. */
uint64_t readers_reads(const struct readers *readers);
/** Reads of VMs that had gone. */
uint64_t readers_stale(const struct readers *readers);
