/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/energy_metadata.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "util/cursor.h"

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

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == ':';
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p != '\0')
        c->p++;
}

/* name="value", with either kind of quotes. */
static bool take_attribute(struct cursor *c, struct cursor *ret_name, struct cursor *ret_value)
{
    const char *name = c->p, *quote;

    while (c->p < c->end && is_name(*c->p))
        c->p++;
    *ret_name = (struct cursor){name, c->p};
    if (c->p == name || !take_byte(c, '=') || c->p == c->end || (*c->p != '"' && *c->p != '\''))
        return false;
    quote = memchr(c->p + 1, *c->p, (size_t)(c->end - c->p - 1));
    if (!quote)
        return false;
    *ret_value = (struct cursor){c->p + 1, quote};
    c->p = quote + 1;
    return true;
}

static bool is_text(struct cursor text, const char *expected)
{
    return take_text(&text, expected) && text.p == text.end;
}

static int parse_version(struct cursor value)
{
    uint64_t version;

    if (!take_digits(&value, &version) || value.p != value.end)
        return -EBADMSG;
    return version == VERSION ? 0 : -EPROTONOSUPPORT;
}

static int parse_uuid(struct cursor value, uuid_t ret)
{
    char text[UUID_TEXT_SIZE] = "";

    if (value.end - value.p != UUID_TEXT_SIZE - 1)
        return -EBADMSG;
    memcpy(text, value.p, UUID_TEXT_SIZE - 1);
    return uuid_parse(text, ret) == 0 ? 0 : -EBADMSG;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *digit = c ? strchr(digits, c) : NULL;

    return digit ? (int)(digit - digits) : -1;
}

static int parse_machine(struct cursor value, uint8_t ret[16])
{
    if (value.end - value.p != 32)
        return -EBADMSG;
    for (unsigned i = 0; i < 16; i++) {
        int high = hex_digit(value.p[2 * i]), low = hex_digit(value.p[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EBADMSG;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static int parse_zone(struct cursor value, uint64_t *ret_total, uint64_t *ret_bound)
{
    uint64_t total, bound;

    if (!take_digits(&value, &total) || !take_byte(&value, ' ') || !take_digits(&value, &bound) ||
        value.p != value.end)
        return -EBADMSG;
    if (total > ENERGY_METADATA_MAX_UJ || bound < total ||
        bound - total > ENERGY_METADATA_AHEAD_MAX_UJ)
        return -ERANGE;
    *ret_total = total;
    *ret_bound = bound;
    return 0;
}

/* What is known by then: bits of has. */
enum { HAS_VERSION = 1, HAS_UUID = 2 };

static int parse_attribute(struct cursor name, struct cursor value, struct energy_metadata *result,
                           unsigned *has)
{
    struct migrated_energy *energy = &result->energy;

    if (is_text(name, "version")) {
        *has |= HAS_VERSION;
        return parse_version(value);
    }
    if (is_text(name, "uuid")) {
        *has |= HAS_UUID;
        return parse_uuid(value, result->uuid);
    }
    if (is_text(name, "machine"))
        return parse_machine(value, result->machine);
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        if (zone_names[kind] && is_text(name, zone_names[kind]))
            return parse_zone(value, &energy->total_uj[kind], &energy->bound_uj[kind]);
    return 0;
}

/* "/>" or an end tag of its own: the element is empty. */
static bool take_end(struct cursor *c)
{
    struct cursor tag = *c;

    if (take_text(c, "/>"))
        return true;
    *c = tag;
    return take_text(c, "></energy>");
}

int energy_metadata_parse(const char *text, size_t length, struct energy_metadata *ret)
{
    struct cursor c = {text, text + length}, name, value;
    struct energy_metadata result = {0};
    unsigned has = 0;

    skip_space(&c);
    if (!take_text(&c, "<energy"))
        return -EBADMSG;
    for (;;) {
        const char *before = c.p;
        int r;

        skip_space(&c);
        if (c.p < c.end && (*c.p == '/' || *c.p == '>'))
            break;
        if (c.p == before || !take_attribute(&c, &name, &value))
            return -EBADMSG;
        r = parse_attribute(name, value, &result, &has);
        if (r < 0)
            return r;
    }
    if (!take_end(&c))
        return -EBADMSG;
    skip_space(&c);
    if (c.p != c.end || has != (HAS_VERSION | HAS_UUID))
        return -EBADMSG;
    *ret = result;
    return 0;
}
