/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "meter/meter_snmp.h"
#include "util/cursor.h"

static int parse_oid(struct cursor *c, struct snmp_oid *ret)
{
    take_byte(c, '.');
    for (ret->n = 0; ret->n < SNMP_OID_PARTS_MAX; ret->n++) {
        uint64_t part;

        if (ret->n > 0 && !take_byte(c, '.'))
            break;
        if (!take_digits(c, &part) || part > UINT32_MAX)
            return -EINVAL;
        ret->parts[ret->n] = (uint32_t)part;
    }
    /* The first two are encoded as one: 40 * first + second. */
    return ret->n < 2 || ret->parts[0] > 2 || (ret->parts[0] < 2 && ret->parts[1] > 39) ? -EINVAL
                                                                                        : 0;
}

int snmp_parse_oids(const char *text, struct snmp_oids *ret)
{
    struct cursor c = {text, text + strlen(text)};
    struct snmp_oids oids = {0};

    do {
        skip_blanks(&c);
        if (oids.n == SNMP_OIDS_MAX || parse_oid(&c, &oids.list[oids.n++]) < 0)
            return -EINVAL;
    } while (take_byte(&c, ' '));
    if (c.p != c.end)
        return -EINVAL;
    *ret = oids;
    return 0;
}

static int value_oids(const char *value, void *target)
{
    return snmp_parse_oids(value, target);
}

#define FIELD(name) offsetof(struct snmp_options, name)

static const struct config_key keys[] = {
    {"snmp", "address", value_text, FIELD(address), "", "a host name or address, or nothing"},
    {"snmp", "oids", value_oids, FIELD(oids), NULL,
     "object identifiers in numbers, up to 8, with a blank between them"},
    {"snmp", "unit", value_power, FIELD(unit_uw), "1W", "a power with its unit, such as 1W"},
    {"snmp", "credentials", value_path_or_none, FIELD(credentials), "",
     "the absolute path of a file, or nothing"},
    {"snmp", "interval", value_duration, FIELD(interval_ns), "5s",
     "a duration with its unit, such as 5s"},
};

static const char *check(const void *target, const char **ret_problem)
{
    const struct snmp_options *options = target;

    if (options->unit_uw == 0 || options->unit_uw > UINT64_C(1000) * 1000000) {
        *ret_problem = "not above 0 and up to 1000W";
        return "unit";
    }
    if (options->address[0] && options->oids.n == 0) {
        *ret_problem = "missing: which gauges of the address tell the power";
        return "oids";
    }
    if (options->address[0] && !options->credentials[0]) {
        *ret_problem = "missing: the file with the community or user";
        return "credentials";
    }
    return NULL;
}

const struct config_keys snmp_keys = {CONFIG_KEYS(keys), .check = check};
