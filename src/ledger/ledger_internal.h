/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the ledger's files share. Each calls only the files before it:
 *
 *     ledger_rows.c     the rows and the zone totals
 *     ledger_image.c    to bytes and back
 *     ledger_reserve.c  of images
 *     ledger_migrate.c  energy that comes and goes with a VM
 *     ledger_divide.c   one interval's energy: host and VMs
 *     ledger.c          which VMs there are, and what publishers see
 */

#include "ledger/ledger.h"
#include "ledger/ledger_image.h"

/* The row "former" has the first id. */
#define LEDGER_FORMER_ID 1

/* One VM's totals. */
struct row {
    uuid_t uuid; /* first: the search key */
    uint32_t id;
    char name[VM_NAME_MAX];
    enum vm_manager manager;
    bool defined;
    bool running;
    unsigned vcpus;
    unsigned tree_zones;
    uint64_t last_seen_ns;                   /* when the VM was last in the VM table */
    uint64_t awaited_until_ns;               /* restored, and not in the VM table yet; else 0 */
    uint64_t prepared_until_ns;              /* about to start, maybe not in the VM table yet */
    struct image_energy energies[ZONES_MAX]; /* by zone totals */
    uint64_t cpu_ns;
    uint64_t io_bytes;
    uint64_t memory_bytes;
    struct ramp tree[TREE_ZONES];
    unsigned start_number;           /* of the arrival whose energy was taken in, see struct vm */
    unsigned migrated_kinds;         /* bit per enum zone_kind that the VM used elsewhere */
    uint64_t start_uj[ZONE_KINDS];   /* used when it began to run here; by enum zone_kind: */
    uint64_t floor_uj[ZONE_KINDS];   /* the tree stands at this total until more is used; 0: none */
    uint64_t ceiling_uj[ZONE_KINDS]; /* the tree shows no more */
    uint64_t listed_uj[ZONE_KINDS];  /* total when it was last listed for libvirt; 0: never */
    struct row *next;
};

/* One zone's totals. */
struct zone_totals {
    char source[LEDGER_SOURCE_MAX];
    char name[ZONE_NAME_MAX];
    enum zone_kind kind;
    struct static_split split;
    struct static_power learned; /* or of origin STATIC_NONE */
    uint64_t measured_uj;
    uint64_t remainder_uj;
    uint64_t host_uj;
    uint64_t host_fraction;
    uint64_t static_uj;
    uint64_t unattributed_uj;
};

/* Work space for one interval: entity 0 is the host, entity i > 0 is rows[i]. */
struct division {
    size_t n;
    struct row **rows;
    uint64_t *weights;
    uint64_t *fractions;
    uint64_t *shares;
    uint64_t *contained_uj; /* of packages and memory, in this interval */
};

/* No slot. */
#define NO_SLOT SIZE_MAX

struct ledger {
    struct ledger_config config;
    struct zone_totals totals[ZONES_MAX]; /* also of zones and sources that are gone */
    size_t n_totals;
    struct zone_totals *slots[ZONES_MAX]; /* the totals of each zone slot; NULL: there is no room */
    size_t n_slots;
    size_t platform_slot;    /* divided by energy; NO_SLOT: there is none */
    uint64_t io_pj_per_byte; /* ... and by block I/O at that energy */
    struct row *rows;        /* newest first: in descending order of ids */
    size_t n_rows;
    void *by_uuid; /* tsearch(3) tree of the same rows */
    uint32_t last_id;
    struct row former; /* the sum of what ended VMs had used */
    bool has_former;
    uint64_t ramp_start_ns;
    bool recorded;      /* since the last snapshot */
    uint64_t listed_ns; /* CLOCK_MONOTONIC of the last ledger_list_departures(); 0: none */
    struct division division;
    size_t division_size;
};

static inline size_t totals_index(const struct ledger *ledger, const struct zone_totals *totals)
{
    return (size_t)(totals - ledger->totals);
}

/* Of ledger_rows.c: */

/** Empties the ledger. */
void ledger_reset(struct ledger *ledger);

/** Adds a row of zeros as the newest. @return 0, -EEXIST or -ENOMEM */
int ledger_add_row(struct ledger *ledger, const uuid_t uuid, uint32_t id, struct row **ret);

/** The row of that VM, begun if there is none. @return 0 or -ENOMEM */
int ledger_get_row(struct ledger *ledger, const uuid_t uuid, struct row **ret);

/** The row of that VM, or NULL. */
struct row *ledger_find_row(const struct ledger *ledger, const uuid_t uuid);

/**
 * Takes a row out of the ledger.
 * @param link  the pointer to it: ledger->rows, or next of the row before
 * @return the row, to be freed by the caller
 */
struct row *ledger_take_row(struct ledger *ledger, struct row **link);

/** The totals of a zone, or NULL. */
struct zone_totals *ledger_find_totals(const struct ledger *ledger, const char *source,
                                       const char *name);

/** The totals of a zone, begun if there are none; NULL when there is no more room. */
struct zone_totals *ledger_get_totals(struct ledger *ledger, const char *source, const char *name,
                                      enum zone_kind kind);

/** Gives the slots of new zones their totals. */
void ledger_map_zones(struct ledger *ledger, const struct zone_set *zones);

/** The total that a VM's tree runs up to in zones of a kind, over all totals ever. */
uint64_t ledger_shown_total(const struct ledger *ledger, const struct row *row,
                            enum zone_kind kind);

/* Of ledger_image.c, beside ledger_save(): */

/**
 * Fills an empty ledger with an image's totals and rows.
 * @return 0; -EBADMSG: two rows of one VM; -ENOMEM
 */
int ledger_load(struct ledger *ledger, const struct ledger_image *image);

/* Of ledger_migrate.c: */

/** A VM begins to run: the energy that it brings is compared with its totals now. */
void ledger_begin_run(struct ledger *ledger, struct row *row);

/** Takes in the energy that a VM brought with it, once for each run. */
void ledger_take_arrival(struct ledger *ledger, struct row *row, const struct vm *vm);

/** After the row's energies changed: its trees stand at their floors until they pass them. */
void ledger_hold_floors(struct ledger *ledger, struct row *row);

/** Finds the floors again after the energies were restored. */
void ledger_restore_floors(struct ledger *ledger, struct row *row);

/* Of ledger_divide.c, beside ledger_record(): */

/** Frees the work space. */
void ledger_division_deinit(struct division *division);
