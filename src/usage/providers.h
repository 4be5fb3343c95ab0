/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The usage providers that there are: a row of USAGE_PROVIDERS each, and its maker
 * in providers.c. See docs/extending.md.
 */

#include "host/trusted_owners.h"
#include "usage/usage.h"

/** The most exact first: "auto" takes the first one that works. */
#define USAGE_PROVIDERS(PROVIDER) PROVIDER(bpf) PROVIDER(procfs)

/** What the providers are made of. */
struct usage_provider_options {
    const char *name; /* of a row, or "auto" */
    const char *proc_root;
    const char *sysfs_root; /* where the CPUs' sockets are read from */
    const struct trusted_owners *owners; /* whose programs may be VMs'; NULL: everybody's */
    struct usage_former former;
};

/**
 * Makes the provider that the options name, or the first one that works.
 * @return 0, or a negative errno, the last one's with "auto"; logged. -EINVAL: there is no such row
 */
int usage_provider_open(struct usage_provider **ret, const struct usage_provider_options *options);
