/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The one thing that is written to libvirt: a VM's energy, in its running domain's
 * metadata.
 *
 * libvirt does not tell one kind of writing from another: who may write anything
 * may define a domain that has the host's disks. (Its access driver for polkit
 * has domain:write for metadata and for disks alike.) A daemon that is not root
 * therefore reads only, and asks a process of root's that can do nothing else:
 *
 *     virtjouled --metadata_record--> socket --> virtjouled --write-metadata --> libvirt
 *                <------metadata_answer-------
 *
 * A record has numbers only. Both sides are of one package: what is not of a
 * record's or an answer's size is refused.
 */

#include <libvirt/libvirt.h>
#include <stdint.h>

#include "discovery/vm.h"

enum metadata_result {
    METADATA_WRITTEN,
    METADATA_BUSY,   /* the domain may be leaving, or was started anew: try again soon */
    METADATA_GONE,   /* there is no such domain */
    METADATA_FAILED, /* with the problem's text */
};

struct metadata_record {
    uuid_t uuid;
    uint32_t start_number; /* libvirt's ID of the running domain */
    struct migrated_energy energy;
};

struct metadata_answer {
    uint32_t result; /* enum metadata_result */
    char problem[252];
};

/** Who writes. Zero-initialised but for fd, which is -1: none does. */
struct metadata_writer {
    virConnectPtr connection; /* that may write; NULL: the other process is asked */
    const char *socket_path;  /* of the other process; NULL: there is none */
    int fd;                   /* connected to it, or -1 */
};

/**
 * Has a domain's energy written. Takes as long as libvirt does; the other process
 * is given up after 30 s.
 */
struct metadata_answer metadata_writer_write(struct metadata_writer *writer,
                                             const struct metadata_record *record);

/** Ends the connection to the other process: the next write makes another. */
void metadata_writer_disconnect(struct metadata_writer *writer);

/**
 * The other process: answers one client after another.
 * @param listen_fd  a listening socket of type SOCK_SEQPACKET
 * @param uri        of libvirt; each client has a connection to it of its own
 * @return a negative errno, when no client can be accepted any more
 */
int metadata_writer_serve(int listen_fd, const char *uri);

/** This host, in metadata that it writes; all zero: unknown. */
void metadata_machine(uint8_t ret[static 16]);
