/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Apart from the meter: who only reads the configuration needs no net-snmp. */

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
