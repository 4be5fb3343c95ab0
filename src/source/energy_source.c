/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source/energy_source.h"

#include <stddef.h>

struct energy_source *energy_source_free(struct energy_source *source)
{
    if (source)
        source->ops->free(source);
    return NULL;
}
