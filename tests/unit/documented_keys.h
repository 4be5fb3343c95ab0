/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The keys of a configuration as its documents have them. */

#include "util/config_keys.h"

/** Where the keys of a program are documented. */
struct key_documents {
    const char *configuration; /* every setting with its default, below the source directory */
    const char *page;          /* the manual page, likewise */
    const char *heading;       /* of the page's part with the keys; NULL: a "# [SECTION]" each */

    /* Keys that no table holds: a NULL section ends them. */
    const struct documented_key {
        const char *section, *key;
    } * others;
};

/**
 * Fails, with a line for each problem, unless
 *
 * - the configuration has each key in its section as "key = default", or as a comment "#key =
 *   example" if it has no default;
 * - the manual page has an entry for each key in its section, which names the default;
 * - neither of the two has a key that the tables do not have.
 */
void assert_documented(const struct config_key *keys, size_t n,
                       const struct key_documents *documents);
