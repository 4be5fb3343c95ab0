/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/energy_metadata.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/cursor.h"
#include "util/parse.h"
#include "util/xml.h"

#define VERSION 1

/* "uncore" is not here: no guest sees it. */
static const char *const zone_names[ZONE_KINDS] = {
    [ZONE_PACKAGE] = "package",
    [ZONE_CORE] = "core",
    [ZONE_DRAM] = "dram",
    [ZONE_PSYS] = "psys",
};

void energy_metadata_format(const struct energy_metadata *metadata,
                            char text[static ENERGY_METADATA_SIZE])
{
    char uuid[UUID_TEXT_SIZE], machine[2 * sizeof(metadata->machine) + 1];
    const struct migrated_energy *energy = &metadata->energy;
    size_t n;

    uuid_unparse_lower(metadata->uuid, uuid);
    for (size_t i = 0; i < sizeof(metadata->machine); i++)
        snprintf(machine + 2 * i, 3, "%02x", metadata->machine[i]);
    n = (size_t)snprintf(text, ENERGY_METADATA_SIZE,
                         "<energy version=\"%d\" uuid=\"%s\" machine=\"%s\"", VERSION, uuid,
                         machine);
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        if (zone_names[kind] && energy->bound_uj[kind] > 0)
            n += (size_t)snprintf(text + n, ENERGY_METADATA_SIZE - n,
                                  " %s=\"%" PRIu64 " %" PRIu64 "\"", zone_names[kind],
                                  energy->total_uj[kind], energy->bound_uj[kind]);
    snprintf(text + n, ENERGY_METADATA_SIZE - n, "/>");
}

/* Parsing. */

static int parse_version(const char *text)
{
    uint64_t version;

    if (parse_u64(text, strlen(text), &version) < 0)
        return -EBADMSG;
    return version == VERSION ? 0 : -EPROTONOSUPPORT;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *digit = c ? strchr(digits, c) : NULL;

    return digit ? (int)(digit - digits) : -1;
}

static int parse_machine(const char *text, uint8_t ret[16])
{
    if (strlen(text) != 32)
        return -EBADMSG;
    for (unsigned i = 0; i < 16; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EBADMSG;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static int parse_zone(const char *text, uint64_t *ret_total, uint64_t *ret_bound)
{
    struct cursor c = {text, text + strlen(text)};
    uint64_t total, bound;

    if (!take_digits(&c, &total) || !take_byte(&c, ' ') || !take_digits(&c, &bound) || c.p != c.end)
        return -EBADMSG;
    if (total > ENERGY_METADATA_MAX_UJ || bound < total ||
        bound - total > ENERGY_METADATA_AHEAD_MAX_UJ)
        return -ERANGE;
    *ret_total = total;
    *ret_bound = bound;
    return 0;
}

static int parse_zones(const xmlNode *element, struct migrated_energy *ret)
{
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++) {
        _cleanup_free_ char *zone =
            zone_names[kind] ? xml_attribute(element, zone_names[kind]) : NULL;
        int r = zone ? parse_zone(zone, &ret->total_uj[kind], &ret->bound_uj[kind]) : 0;

        if (r < 0)
            return r;
    }
    return 0;
}

static int parse_element(const xmlNode *element, struct energy_metadata *ret)
{
    _cleanup_free_ char *version = xml_attribute(element, "version");
    _cleanup_free_ char *uuid = xml_attribute(element, "uuid");
    _cleanup_free_ char *machine = xml_attribute(element, "machine");
    int r;

    if (!xmlStrEqual(element->name, BAD_CAST "energy") || element->children || !version || !uuid)
        return -EBADMSG;
    r = parse_version(version);
    if (r < 0)
        return r;
    if (uuid_parse(uuid, ret->uuid) < 0)
        return -EBADMSG;
    r = machine ? parse_machine(machine, ret->machine) : 0;
    return r < 0 ? r : parse_zones(element, &ret->energy);
}

int energy_metadata_parse(const char *text, size_t length, struct energy_metadata *ret)
{
    _cleanup_xml_ xmlDocPtr document = NULL;
    struct energy_metadata result = {0};
    int r = xml_parse(text, length, &document);

    if (r < 0)
        return r == -EINVAL ? -EBADMSG : r;
    r = parse_element(xmlDocGetRootElement(document), &result);
    if (r == 0)
        *ret = result;
    return r;
}
