/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Model files: what is accepted divides something, and cannot overflow. */

#include "fuzz.h"

#include "attribution/fitted.h"

static void check_section(const struct fitted_section *section)
{
    double largest = 0;

    for (unsigned i = 0; i < FEATURES; i++) {
        require(section->weights[i] >= 0 && section->weights[i] < 1);
        require(section->weights[i] == 0 || section->given & 1u << i);
        if (section->weights[i] > largest)
            largest = section->weights[i];
    }
    require(section->given ? largest >= 0.5 : largest == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fitted_weights weights;
    struct config_error error;
    unsigned given = 0;

    if (fitted_parse((const char *)data, size, &weights, &error) < 0) {
        require(error.problem[0] != '\0' && error.line >= 0);
        return 0;
    }
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        check_section(&weights.sections[kind]);
        given |= weights.sections[kind].given;
    }
    require(given != 0);
    return 0;
}
