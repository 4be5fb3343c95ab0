/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define UUID_TEXT_LENGTH 36

/**
 * Whether a domain has its energy share: a directory that is named by the
 * domain's own UUID, wherever the trees are mounted. A search for bytes, not a
 * parser: what libvirt passes a hook is not for the hook to judge.
 * @param xml  any bytes
 * @param ret  the UUID as it is spelt there, NUL-terminated
 */
bool find_share_uuid(const char *xml, size_t length, char ret[UUID_TEXT_LENGTH + 1]);
