/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The energy of this machine, from a powercap tree: the one the hypervisor
 * shares with a guest, or the machine's own.
 *
 *     <root>/class/powercap --(each read)--> one total that never falls, and how late it is
 *
 * The total is that of the packages and their memory (DRAM lies outside the
 * package); psys, which contains both, counts where there is no package. A tree
 * that vanishes is looked for at every read; when it returns with the same zones,
 * the energy used meanwhile is in the total.
 */

#include <stdbool.h>
#include <stdint.h>

struct powercap_reader;

/** The result of one read. */
struct powercap_energy {
    bool known;         /* false: there is no tree; the rest is as it was at the last read */
    bool reset;         /* since the last read, the total lacks an unknown amount of energy */
    uint64_t energy_uj; /* total since the first read */
    uint64_t delay_ns;  /* the total is as of this long ago */
};

/**
 * Opens nothing yet: powercap_reader_read() does.
 * @param root  holds class/powercap; NULL: a guest's share (SHARE_MOUNTPOINT), else /sys
 * @return 0 or -ENOMEM
 */
int powercap_reader_new(struct powercap_reader **ret, const char *root);

/** Reads the tree; logs when the tree vanishes and when it appears. */
void powercap_reader_read(struct powercap_reader *reader, struct powercap_energy *ret);

/** NULL is accepted. @return NULL */
struct powercap_reader *powercap_reader_free(struct powercap_reader *reader);
