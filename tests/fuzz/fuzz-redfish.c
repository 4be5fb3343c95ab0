/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Answers of a Redfish service. */

#include "fuzz.h"

#include <string.h>

#include "meter/redfish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct redfish_links links;
    uint64_t power_uw = UINT64_MAX, resolution_uw = 0;
    char *copy = malloc(size); /* nothing lies behind it */

    require(copy != NULL || size == 0);
    if (size)
        memcpy(copy, data, size);
    if (redfish_parse_power(copy, size, &power_uw, &resolution_uw) == METER_OK)
        require(power_uw <= UINT64_C(1000000000000000) && resolution_uw > 0);
    links.n = 0;
    if (redfish_parse_links(copy, size, &links) == METER_OK)
        for (size_t i = 0; i < links.n; i++)
            require(links.paths[i][0] == '/' && links.paths[i][1] != '/' &&
                    strlen(links.paths[i]) < REDFISH_PATH_MAX);
    free(copy);
    return 0;
}
