/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a VM can no longer do when it has its energy share.
 */

#include <stdbool.h>
#include <stddef.h>

/** What the share depends on; versions as libvirt has them: major * 1000000 + minor * 1000 +
    release. */
struct share_host {
    unsigned long libvirt;
    unsigned long qemu;
    bool c_virtiofsd; /* Debian 12's, which cannot hand over its state */
};

struct share_loss {
    const char *name; /* in JSON */
    const char *text; /* behind "the VM" */
};

#define SHARE_LOSSES_MAX 5

/**
 * Lists what is lost.
 * @param memory_changes  attach makes the VM's memory shared, and of small pages
 * @return their number
 */
size_t share_losses(const struct share_host *host, bool memory_changes,
                    const struct share_loss *ret[SHARE_LOSSES_MAX]);
