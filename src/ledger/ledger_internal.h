/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the ledger share: ledger.c (rows and what is seen of them), ledger_divide.c
   (arithmetic) and ledger_save.c (to bytes and back). */

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
    uint64_t last_seen_ns;                   /* when it was last in the VM table */
    uint64_t awaited_until_ns;               /* restored, and not in it yet */
    uint64_t prepared_until_ns;              /* about to start, maybe not in it yet */
    struct image_energy energies[ZONES_MAX]; /* by zone totals */
    uint64_t cpu_ns;
    uint64_t io_bytes;
    uint64_t memory_bytes;
    struct ramp tree[TREE_ZONES];
    unsigned start_number;           /* of its carried energy that was taken in, struct vm */
    unsigned migrated_kinds;         /* bit per enum zone_kind that it used elsewhere */
    uint64_t start_uj[ZONE_KINDS];   /* used when it began to run here; by enum zone_kind: */
    uint64_t floor_uj[ZONE_KINDS];   /* what its tree stands at until more is used; 0: none */
    uint64_t ceiling_uj[ZONE_KINDS]; /* what its tree may show */
    uint64_t listed_uj[ZONE_KINDS];  /* total when it was last listed for libvirt; 0: never */
    struct row *next;
};

/* One zone's totals. */
struct zone_totals {
    char source[LEDGER_SOURCE_MAX];
    char name[ZONE_NAME_MAX];
    enum zone_kind kind;
    struct static_split split;
    struct static_power learned; /* of origin STATIC_FROM_LOAD or STATIC_NONE */
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
    struct static_power static_powers[ZONES_MAX]; /* by slot */
    size_t platform_slot;                         /* divided by energy; NO_SLOT: there is none */
    uint64_t io_pj_per_byte;                      /* ... and by block I/O at that energy */
    struct row *rows;                             /* newest first: in descending order of ids */
    size_t n_rows;
    void *by_uuid; /* tsearch(3) tree of the same */
    uint32_t last_id;
    struct row former; /* what ended VMs had used */
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

/** Empties the ledger. */
void ledger_reset(struct ledger *ledger);

/** Adds a row of zeros as the newest. @return 0, -EEXIST or -ENOMEM */
int ledger_add_row(struct ledger *ledger, const uuid_t uuid, uint32_t id, struct row **ret);

/** The row of that VM, begun if there is none. @return 0 or -ENOMEM */
int ledger_get_row(struct ledger *ledger, const uuid_t uuid, struct row **ret);

/** The row of that VM, or NULL. */
struct row *ledger_find_row(const struct ledger *ledger, const uuid_t uuid);

/** The totals of a zone, begun if there is none; NULL when there is no more room. */
struct zone_totals *ledger_get_totals(struct ledger *ledger, const char *source, const char *name,
                                      enum zone_kind kind);

/** Gives the slots of new zones their totals. */
void ledger_map_zones(struct ledger *ledger, const struct zone_set *zones);

/** What a VM's tree runs up to in zones of a kind, over all totals ever. */
uint64_t ledger_shown_total(const struct ledger *ledger, const struct row *row,
                            enum zone_kind kind);

/** The row's trees stand at its totals. */
void ledger_settle_ramps(const struct ledger *ledger, struct row *row);

/* Of ledger_divide.c, beside ledger_record(): */

/** Frees the work space. */
void ledger_division_deinit(struct division *division);

/* Of ledger_migrate.c: */

/** A VM begins to run: what it used elsewhere, it used since it had these totals. */
void ledger_begin_run(struct ledger *ledger, struct row *row);

/** Takes in what a VM brought with it, once for each run. */
void ledger_take_arrival(struct ledger *ledger, struct row *row, const struct vm *vm);

/** After its energies changed: the row's trees stand at their floors until they pass them. */
void ledger_hold_floors(struct ledger *ledger, struct row *row);

/** Finds the floors again after the energies were restored. */
void ledger_restore_floors(struct ledger *ledger, struct row *row);
