/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which VMs exist: libvirt's domains and the QEMU processes of /proc, as one list.
 */

#include <stdbool.h>

#include "discovery/vm.h"

struct discovery_config {
    const char *libvirt_uri; /* NULL or empty: without libvirt */
    bool procfs;             /* whether QEMU processes that libvirt does not know count */
    const char *proc_root;   /* "/proc" */
};

struct discovery;

/** @return 0 or a negative errno: proc_root cannot be read, or out of resources */
int discovery_new(const struct discovery_config *config, struct discovery **ret);

/** Stops and frees it, within a second; NULL is accepted. @return NULL */
struct discovery *discovery_free(struct discovery *discovery);

/**
 * Looks again. Never waits for libvirt.
 * @param changes  the processes to look at; after a failure, all must be
 * @param ret      a new table; vm_table_deinit() it
 * @return 1; 0 when nothing changed, ret is then untouched; or a negative errno:
 *         out of memory, or proc_root cannot be read
 */
int discovery_refresh(struct discovery *discovery, const struct process_changes *changes,
                      struct vm_table *ret);

/**
 * Has libvirt keep the energy of running VMs with them, and answers how much
 * of it may be shown. Never waits for libvirt.
 * @param leaves  gets in another order, with ceiling_uj answered
 */
void discovery_publish_energy(struct discovery *discovery, struct vm_departure *departures,
                              size_t n);

/**
 * A descriptor that turns readable when it is worth to refresh before the next
 * tick, since libvirt's domains changed, and is read by discovery_refresh();
 * or -1 without libvirt.
 */
int discovery_event_fd(const struct discovery *discovery);
