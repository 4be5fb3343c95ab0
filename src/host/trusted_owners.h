/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The users whose processes may be VMs. A process of anybody else may call itself what
 * it likes, and name any UUID.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/proc_text.h"

#define TRUSTED_OWNERS_MAX 32

struct trusted_owners {
    uint32_t uids[TRUSTED_OWNERS_MAX];
    size_t n;
};

/**
 * Root, libvirt-qemu and qemu, as far as this host has them, and the users of a list.
 * @param list  names or numbers, separated by blanks
 * @return 0; -EINVAL: the host has no such user; -ERANGE: more than TRUSTED_OWNERS_MAX
 */
int trusted_owners_parse(const char *list, struct trusted_owners *ret);

/**
 * The user who makes a process one that is not trusted: the first of real, effective and
 * saved that is not in the list.
 * @return its uid; 0: the process is trusted
 */
uint32_t trusted_owners_find_other(const struct trusted_owners *owners,
                                   const struct proc_owner *owner);
