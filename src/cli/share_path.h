/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define UUID_TEXT_LENGTH 36

/**
 * Whether a domain has its energy share: a directory of the mount point that is named by the
 * domain's own UUID. This searches for bytes and parses no XML, unlike libvirt/domain_xml.h:
 * libvirt waits for its hook, and whether the XML is right is not for the hook to judge.
 * @param xml         any bytes
 * @param mountpoint  of the trees: an absolute path without a slash at its end
 * @param ret         the UUID as the XML spells it, NUL-terminated; untouched without a share
 */
bool find_share_uuid(const char *xml, size_t length, const char *mountpoint,
                     char ret[UUID_TEXT_LENGTH + 1]);
