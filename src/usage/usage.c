/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/usage.h"

#include <stdlib.h>

void usage_deinit(struct usage *usage)
{
    free(usage->vms);
    *usage = (struct usage){0};
}

struct usage_provider *usage_provider_free(struct usage_provider *provider)
{
    if (provider)
        provider->ops->free(provider);
    return NULL;
}
