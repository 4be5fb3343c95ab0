/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The ledger as bytes: the content of the runtime file and of the checkpoint.
 *
 *     head | n_totals x zone totals | n_rows x (row | n_totals x energy)
 *
 * Zones are identified by source and name, not by slot: slots may come in
 * another order after a restart, and an estimate never mixes with measured
 * energy. VMs are identified by UUID. The rows are in descending order of their
 * ids; the last one, always there, is the row "former" of ended VMs.
 *
 * The image has no published totals: a VM's tree runs up to the sum of its
 * energies and never beyond, so the sums are at least what was shown.
 *
 * All integers are in the machine's byte order and all records are multiples
 * of 8 bytes without padding; a foreign byte order shows as a foreign version.
 */

#include <stddef.h>
#include <stdint.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"
#include "source/sample.h"
#include "source/zone.h"
#include "util/buffer.h"

/* To be raised with any change to the records below or to an enum that they hold. Later versions
   must read every version that has been released: guests run on over an upgrade. */
#define LEDGER_IMAGE_VERSION 2
#define LEDGER_SOURCE_MAX 16
/* The source of energy that VMs used on other hosts, see ledger_migrate.h. */
#define LEDGER_SOURCE_ELSEWHERE "elsewhere"
/* No total comes near this: a megawatt for 146000 years. Sums of a few do not overflow. */
#define LEDGER_TOTAL_MAX (UINT64_C(1) << 62)

/** The machine that wrote the image, and its boot. */
struct ledger_identity {
    uint8_t boot[16];    /* CLOCK_MONOTONIC and the zones' counters are valid for this boot */
    uint8_t machine[16]; /* all zero: unknown */
};

enum ledger_image_flag {
    LEDGER_IMAGE_RESERVE = 1u << 0, /* the totals contain a reserve, see ledger_reserve.h */
};

struct image_head {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    uint64_t checksum; /* XXH3-64 of all bytes that follow it */
    uint64_t size;     /* of the whole image */
    uint64_t sequence; /* grows with every image of this ledger, over restarts as well */
    uint64_t time_ns;  /* CLOCK_MONOTONIC of the last interval's end */
    struct ledger_identity identity;
    uint32_t flags; /* bit per enum ledger_image_flag */
    uint32_t n_totals;
    uint32_t n_rows;
    uint32_t last_id; /* the highest id ever given out */
};

/** One zone's totals and last reading. */
struct image_totals {
    char source[LEDGER_SOURCE_MAX];
    char name[ZONE_NAME_MAX];
    uint32_t kind; /* enum zone_kind */
    uint32_t reading_valid;
    uint64_t reading_uj;
    uint64_t reading_ns; /* CLOCK_MONOTONIC */
    uint64_t measured_uj;
    uint64_t remainder_uj;
    uint64_t host_uj;
    uint64_t host_fraction;
    uint64_t static_uj;
    uint64_t unattributed_uj;
    uint64_t static_remainder;
    int64_t static_deficit_uj;
    uint64_t learned_known; /* of the static power, from the load; 0 or 1 */
    uint64_t learned_uw;    /* if not known: the floor, or 0 */
    uint64_t learned_uncertainty_uw;
};

/** One VM's totals except its energies, which follow this record. */
struct image_row {
    uuid_t uuid; /* all zero for "former" */
    uint32_t id; /* > 0 */
    uint32_t vcpus;
    uint32_t manager; /* enum vm_manager */
    uint32_t tree_zones;
    uint64_t cpu_ns;
    uint64_t io_bytes;
    char name[VM_NAME_MAX];
};

/** The energy that a VM used of one zone. */
struct image_energy {
    uint64_t dynamic_uj;
    uint64_t dynamic_fraction;
    uint64_t static_uj;
    uint64_t static_fraction;
};

/** A view into an image's bytes. */
struct ledger_image {
    struct image_head *head;
    struct image_totals *totals;
    unsigned char *rows;
};

/** The size of an image of that many zone totals and rows, bytes. */
size_t ledger_image_size(size_t n_totals, size_t n_rows);

/**
 * Makes the buffer an image of zeros whose head is set except last_id, flags,
 * sequence, time_ns, identity and checksum.
 * @return 0 or -ENOMEM
 */
int ledger_image_init(struct buffer *buffer, size_t n_totals, size_t n_rows);

/** Sets the checksum, which completes the image. */
void ledger_image_seal(void *bytes);

/** The view of an image that ledger_image_init() made. */
struct ledger_image ledger_image_view(void *bytes);

/**
 * Checks that the bytes are one whole image that keeps every rule which the
 * ledger relies on, conservation among them.
 * @param bytes  aligned for uint64_t; untrusted; left as they are
 * @param ret    a view into the bytes
 * @return 0; -ENOMSG: no ledger at all; -EPROTONOSUPPORT: of another version;
 *         -EBADMSG: cut off or damaged
 */
int ledger_image_parse(void *bytes, size_t size, struct ledger_image *ret);

/** Row i, below head->n_rows. */
struct image_row *ledger_image_row(const struct ledger_image *image, size_t i);

/** The row's head->n_totals energies. */
static inline struct image_energy *image_row_energies(struct image_row *row)
{
    return (struct image_energy *)(row + 1);
}

/**
 * The zones' last readings, for the sampler of a daemon that starts on the same
 * boot: the first sample then covers the downtime. A zone that could not be
 * read at the end of the last interval still has a gap. A downtime longer than
 * a counter's wrap counts without the wraps in between, as with every reader of
 * powercap.
 * @param now  CLOCK_MONOTONIC; readings that claim to be later are left out
 * @param ret  zero-initialised
 */
void ledger_image_readings(const struct ledger_image *image, const char *source,
                           const struct zone_set *zones, uint64_t now, struct sampler *ret);

/** The marks of an image. */
struct ledger_stamp {
    uint64_t sequence;
    uint64_t time_ns; /* CLOCK_MONOTONIC of the last interval's end */
    struct ledger_identity identity;
};

struct ledger;

/**
 * Saves all that a later daemon needs to continue where this one is.
 * @param sampler  the readings up to which energy has been entered
 * @param ret      replaced
 * @return 0 or -ENOMEM, then ret is as it was
 */
int ledger_save(const struct ledger *ledger, const struct sampler *sampler,
                const struct ledger_stamp *stamp, struct buffer *ret);
