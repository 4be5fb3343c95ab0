/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Responses of a BMC. */

#include "fuzz.h"

#include <string.h>

#include "meter/meter_dcmi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dcmi_power power;
    const char *detail = NULL;
    unsigned char *copy = malloc(size); /* nothing lies behind it */
    enum meter_state state;

    require(copy != NULL || size == 0);
    if (size)
        memcpy(copy, data, size);
    state = dcmi_parse_power(copy, size, &power, &detail);
    require(state == METER_OK || detail != NULL);
    require(state != METER_OK || (size >= 19 && copy[0] == 0 && power.active));
    free(copy);
    return 0;
}
