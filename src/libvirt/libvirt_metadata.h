/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The energy that VMs carry in their domains' metadata.
 *
 *     the tick --(libvirt_metadata_offer)--> table --(libvirt_metadata_write)--> libvirt
 *              <-------- ceilings --------
 *
 * What is offered every tick is written when it is a minute old, or when the
 * VM is about to be shown more than the written bound: about one call a
 * minute for each VM, on libvirt's thread. Until then the bound is the VM's
 * ceiling, since the domain may leave with that metadata at any moment.
 *
 * A domain that is leaving cannot be written: libvirt is busy with it, and
 * the metadata has gone already. Its ceiling holds until that has ended,
 * however long it takes; what is used beyond is shown afterwards, if the VM stays.
 * Where libvirt cannot be reached, or does not accept it, nothing can leave with
 * a metadata of ours that is too low for long: there is no ceiling then.
 */

#include <libvirt/libvirt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "discovery/vm.h"

struct libvirt_metadata;

/** @return 0 or -ENOMEM */
int libvirt_metadata_new(struct libvirt_metadata **ret);
struct libvirt_metadata *libvirt_metadata_free(struct libvirt_metadata *metadata_sync);

/**
 * Offers the running VMs' energy, and answers their ceilings. Thread-safe, never waits for libvirt.
 * @param leaves  gets sorted by UUID
 * @param now     CLOCK_MONOTONIC
 * @return whether libvirt_metadata_write() has something to do
 */
bool libvirt_metadata_offer(struct libvirt_metadata *metadata_sync, struct vm_departure *departures,
                            size_t n, uint64_t now);

/**
 * Writes what is due. On libvirt's thread.
 * @return whether more remains than one call does: events are not to wait for all of them
 */
bool libvirt_metadata_write(struct libvirt_metadata *metadata_sync, virConnectPtr connection);

/** The domain's metadata may be another now (a snapshot), or it stays after all: it is written
 * at once. */
void libvirt_metadata_touch(struct libvirt_metadata *metadata_sync, const uuid_t uuid);

/** @param writable  whether a connection is there that may write; all ceilings end */
void libvirt_metadata_set_connected(struct libvirt_metadata *metadata_sync, bool writable);

/**
 * Reads what a running domain carries. On libvirt's thread. What is broken is logged, and nothing.
 * @return whether libvirt has answered
 */
bool libvirt_metadata_read(virDomainPtr domain, struct vm_arrival *ret);
