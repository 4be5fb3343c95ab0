/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The energy in a domain's metadata: what is accepted is within bounds, and is written back so. */

#include "fuzz.h"

#include <string.h>

#include "libvirt/energy_metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct energy_metadata read, again;
    char text[ENERGY_METADATA_SIZE];

    if (energy_metadata_parse((const char *)data, size, &read) < 0)
        return 0;
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        uint64_t total = read.energy.total_uj[kind], bound = read.energy.bound_uj[kind];

        require(total <= bound && total <= ENERGY_METADATA_MAX_UJ &&
                bound - total <= ENERGY_METADATA_AHEAD_MAX_UJ);
    }
    energy_metadata_format(&read, text);
    require(energy_metadata_parse(text, strlen(text), &again) == 0);
    require(memcmp(&read, &again, sizeof(read)) == 0);
    return 0;
}
