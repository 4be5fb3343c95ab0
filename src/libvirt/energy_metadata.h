/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A VM's energy as an element of its domain's metadata.
 *
 *     <energy version="1" uuid="…" machine="…" package="123 456" dram="78 90"/>
 *
 * Each zone has the total and the bound of struct migrated_energy, microjoules. The
 * UUID is the VM's: an element that was copied to another domain counts for neither.
 * The machine is the host that wrote it. A zone that is left out has no energy; further
 * attributes (of a later version, which keeps the meaning of these) are ignored.
 *
 * libvirt keeps the element in the XML of the running domain, and with it in
 * its save images and migrations.
 */

#include <stddef.h>
#include <stdint.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"

/* The name space of the element and its prefix in the domain's XML. */
#define ENERGY_METADATA_URI "urn:virtjoule:energy"
#define ENERGY_METADATA_PREFIX "virtjoule"

/* No VM uses more: a kilowatt for 36000 years. */
#define ENERGY_METADATA_MAX_UJ (UINT64_C(1) << 60)
/* What a guest can have been shown in advance: the reserves of many migrations in a minute. */
#define ENERGY_METADATA_AHEAD_MAX_UJ (UINT64_C(10000000) * 1000000)

/* An element that energy_metadata_format() writes fits, with its NUL. */
#define ENERGY_METADATA_SIZE 512

struct energy_metadata {
    uuid_t uuid;
    uint8_t machine[16]; /* of the host that wrote it; all zero: unknown */
    struct migrated_energy energy;
};

/** Writes the element, NUL-terminated. */
void energy_metadata_format(const struct energy_metadata *metadata,
                            char text[static ENERGY_METADATA_SIZE]);

/**
 * Reads an element.
 * @param text  untrusted: any bytes
 * @return 0; -EBADMSG: not of the form; -EPROTONOSUPPORT: of another version;
 *         -ERANGE: a total beyond ENERGY_METADATA_MAX_UJ, or a bound that is below its total
 *         or too far above it; -ENOMEM. On failure ret is untouched
 */
int energy_metadata_parse(const char *text, size_t length, struct energy_metadata *ret);
