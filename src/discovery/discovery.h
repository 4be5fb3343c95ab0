/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which VMs exist: libvirt's domains and the QEMU processes of /proc, as one list.
 */

#include <stdbool.h>

#include "discovery/vm.h"

struct discovery_config {
    const char *libvirt_uri;     /* NULL or empty: without libvirt */
    bool procfs;                 /* whether QEMU processes unknown to libvirt are VMs */
    const char *proc_root;       /* "/proc" */
    const char *metadata_socket; /* of the process that writes to libvirt, or NULL */
};

struct discovery;

/** @return 0 or a negative errno: proc_root cannot be read, or out of resources */
int discovery_new(const struct discovery_config *config, struct discovery **ret);

/** Stops and frees it, within a second; NULL is accepted. @return NULL */
struct discovery *discovery_free(struct discovery *discovery);

/**
 * Looks at the processes and domains again. Never waits for libvirt.
 * @param changes  the processes to look at; all of them after a failure
 * @param ret      a new table, to be freed with vm_table_deinit()
 * @return 1; 0 when nothing changed, ret is then untouched; or a negative errno:
 *         out of memory, or proc_root cannot be read
 */
int discovery_refresh(struct discovery *discovery, const struct process_changes *changes,
                      struct vm_table *ret);

/**
 * Stores the energy of running VMs in their libvirt metadata, and returns how much
 * of it each tree may show. Never waits for libvirt.
 * @param departures  reordered on return, with ceiling_uj filled in
 */
void discovery_publish_energy(struct discovery *discovery, struct vm_departure *departures,
                              size_t n);

/**
 * A descriptor that turns readable when libvirt's domains changed and a refresh before the next
 * tick is worthwhile; discovery_refresh() resets it. -1 without libvirt.
 */
int discovery_event_fd(const struct discovery *discovery);
