/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keeps each running VM's energy in its domain's metadata, so that it arrives with
 * the VM on another host.
 *
 *     the tick --(libvirt_metadata_offer)--> table --(libvirt_metadata_write)--> metadata_writer.h
 *              <-------- ceilings --------
 *
 * The tick offers the energy of every VM. It is written once a minute, or earlier
 * when the VM's tree is about to show more than the written bound: about one
 * call a minute for each VM, on libvirt's thread. Until the next write the bound is the
 * ceiling of the tree, since the domain may leave with that metadata at any moment.
 *
 * A domain that is leaving cannot be written: libvirt is busy with it, and
 * the metadata has been sent already. The ceiling then holds until the job has ended,
 * however long it takes; energy beyond it is shown afterwards, if the VM stays.
 * Where libvirt cannot be reached, or refuses the write, there is no ceiling: no domain can
 * leave with a bound that stays too low for long.
 */

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "discovery/vm.h"
#include "libvirt/metadata_writer.h"

struct libvirt_metadata;

/** @return 0 or -ENOMEM */
int libvirt_metadata_new(struct libvirt_metadata **ret);
struct libvirt_metadata *libvirt_metadata_free(struct libvirt_metadata *metadata_sync);

/**
 * Offers the running VMs' energy, and returns their ceilings. Thread-safe, never waits for libvirt.
 * @param departures  sorted by UUID on return
 * @param now         CLOCK_MONOTONIC
 * @return whether libvirt_metadata_write() has something to do
 */
bool libvirt_metadata_offer(struct libvirt_metadata *metadata_sync, struct vm_departure *departures,
                            size_t n, uint64_t now);

/**
 * Writes the metadata that is due. Runs on libvirt's thread.
 * @return whether more is due: one call writes a limited number, so that events need not wait
 */
bool libvirt_metadata_write(struct libvirt_metadata *metadata_sync, struct metadata_writer *writer);

/** Makes a domain's metadata due at once: a snapshot may have replaced it, or the domain stays
 * after all. */
void libvirt_metadata_touch(struct libvirt_metadata *metadata_sync, const uuid_t uuid);

/** Ends all ceilings. @param writable  whether there is a connection that may write */
void libvirt_metadata_set_connected(struct libvirt_metadata *metadata_sync, bool writable);

/**
 * Reads the energy with which a running domain arrived. Runs on libvirt's thread. Broken metadata
 * is logged and read as none.
 * @return whether libvirt has answered
 */
bool libvirt_metadata_read(virDomainPtr domain, struct vm_arrival *ret);
