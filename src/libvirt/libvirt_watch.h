/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domains that libvirt knows.
 *
 * Calls to libvirt may block for as long as its daemon likes, so they are all
 * made on a thread of the watch's own, which keeps a table; the functions
 * below only look at that table and never wait for libvirt.
 */

#include <stddef.h>

#include "discovery/vm.h"
#include "libvirt/libvirt_table.h"

struct libvirt_watch;

/**
 * Starts to watch. That libvirt does not answer is no error: it is tried again
 * for ever, after 1 s first and every minute in the end.
 * @param uri  of a QEMU driver, such as "qemu:///system"
 * @return 0 or a negative errno (out of memory, threads or descriptors)
 */
int libvirt_watch_new(const char *uri, struct libvirt_watch **ret);

/**
 * Stops and frees the watch; NULL is accepted. Takes at most a second: a thread
 * that does not come back from libvirt by then is left behind with its memory,
 * and ends when the call does.
 * @return NULL
 */
struct libvirt_watch *libvirt_watch_free(struct libvirt_watch *watch);

/**
 * The domains, sorted by UUID. While libvirt is away they are those of the time
 * when it left: a guest's directory must not vanish when libvirtd is restarted.
 * @param ret  new memory, to be freed by the caller; NULL where there are none
 * @return 0 or -ENOMEM
 */
int libvirt_watch_domains(struct libvirt_watch *watch, struct libvirt_domain **ret, size_t *ret_n);

/**
 * Has libvirt keep the running domains' energy with them, and answers how much
 * may be shown until it has.
 * @param leaves  gets sorted by UUID, with ceiling_uj answered
 */
void libvirt_watch_publish_energy(struct libvirt_watch *watch, struct vm_departure *departures,
                                  size_t n);

/** Readable after the table changed, until libvirt_watch_domains() is called. */
int libvirt_watch_event_fd(const struct libvirt_watch *watch);
