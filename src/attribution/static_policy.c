/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/static_policy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "util/macros.h"

static const char *const names[] = {
    [STATIC_EXCLUDE] = "exclude",
    [STATIC_EQUAL] = "equal",
    [STATIC_PROPORTIONAL] = "proportional",
    [STATIC_VCPU] = "vcpu",
};

const char *static_policy_to_string(enum static_policy policy)
{
    return names[policy];
}

int static_policy_from_string(const char *text, enum static_policy *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum static_policy)i;
            return 0;
        }
    return -EINVAL;
}

uint64_t static_policy_weight(enum static_policy policy, unsigned vcpus, uint64_t dynamic_uj)
{
    switch (policy) {
    case STATIC_EXCLUDE:
        return 0;
    case STATIC_EQUAL:
        return 1;
    case STATIC_PROPORTIONAL:
        return dynamic_uj;
    case STATIC_VCPU:
        return vcpus;
    }
    return 0;
}
