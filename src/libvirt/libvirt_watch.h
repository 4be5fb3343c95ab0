/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domains that libvirt knows.
 *
 * A call to libvirt may block without limit, so a thread of its own makes all of
 * them and keeps a table of domains; the functions below read only that table
 * and never wait for libvirt.
 */

#include <stddef.h>

#include "discovery/vm.h"
#include "libvirt/libvirt_table.h"

struct libvirt_watch;

/**
 * Starts to watch. An unreachable libvirt is no error: the connection is retried
 * for ever, after 1 s at first and once a minute in the end.
 * @param uri              of a QEMU driver, such as "qemu:///system"
 * @param metadata_socket  if it exists, the process behind it writes (metadata_writer.h), and
 *                         the connection reads only; NULL: there is none
 * @return 0 or a negative errno (out of memory, threads or descriptors)
 */
int libvirt_watch_new(const char *uri, const char *metadata_socket, struct libvirt_watch **ret);

/**
 * Stops and frees the watch; NULL is accepted. Takes at most a second: a thread
 * that is still waiting for libvirt then is left behind with its memory and ends
 * when its call returns.
 * @return NULL
 */
struct libvirt_watch *libvirt_watch_free(struct libvirt_watch *watch);

/**
 * The domains, sorted by UUID. While libvirt is away, the domains
 * of the last list stay: a guest's directory must not vanish when libvirtd is restarted.
 * @param ret  new memory, to be freed by the caller; NULL where there are none
 * @return 0 or -ENOMEM
 */
int libvirt_watch_domains(struct libvirt_watch *watch, struct libvirt_domain **ret, size_t *ret_n);

/**
 * Stores the running domains' energy in their metadata, and returns how much each
 * tree may show until that is done.
 * @param departures  sorted by UUID on return, with ceiling_uj filled in
 */
void libvirt_watch_publish_energy(struct libvirt_watch *watch, struct vm_departure *departures,
                                  size_t n);

/** Readable after the table changed, until libvirt_watch_domains() is called. */
int libvirt_watch_event_fd(const struct libvirt_watch *watch);
