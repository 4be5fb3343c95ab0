/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/domain_xml_internal.h"
#include "util/cleanup.h"
#include "util/parse.h"

static bool is(const char *field, const char *value)
{
    return field && strcmp(field, value) == 0;
}

static size_t count_children(const struct domain *domain, size_t parent)
{
    size_t n = 0;

    for (size_t i = parent + 1; i < domain->xml.n; i++)
        n += domain->xml.elements[i].parent == parent;
    return n;
}

/* Devices that the operator added and that are served by other processes as well. */
static bool others_need_shared_memory(const struct domain *domain)
{
    static const char *const kinds[] = {"interface", "disk"};

    FOR_EACH_CHILD (i, domain, domain->devices, "filesystem") {
        size_t driver = domain_child(domain, i, "driver");

        if (i != domain->share && driver != XML_NONE &&
            xml_attribute_is(&domain->xml, driver, "type", "virtiofs"))
            return true;
    }
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        FOR_EACH_CHILD (i, domain, domain->devices, kinds[k])
            if (xml_attribute_is(&domain->xml, i, "type", "vhostuser"))
                return true;
    return false;
}

/* @return whether the child goes, or a negative errno */
static int restore_backing(struct domain *domain, size_t child, const char *attribute,
                           const char *set, const char *former, const char *only_former)
{
    if (child == XML_NONE || !xml_attribute_is(&domain->xml, child, attribute, set))
        return 0;
    if (is(former, ADDED))
        return 1;
    return is(former, only_former) ? domain_set_attribute(domain, child, attribute, former) : 0;
}

static bool is_listed(const char *list, const char *id)
{
    size_t length = strlen(id);

    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, id, length) == 0 && p[length] == ',')
            return true;
    return false;
}

static int restore_cells(struct domain *domain, const struct record *record)
{
    size_t numa = domain->numa;

    FOR_EACH_CHILD (cell, domain, numa, "cell") {
        _cleanup_free_ char *id = xml_attribute_copy(&domain->xml, cell, "id");

        if (id && is_listed(record->cells, id) &&
            xml_attribute_is(&domain->xml, cell, "memAccess", "shared") &&
            domain_set_attribute(domain, cell, "memAccess", "private") < 0)
            return -ENOMEM;
    }
    return 0;
}

static int restore_memory(struct domain *domain, const struct record *record)
{
    int source, access, r = restore_cells(domain, record);

    if (r < 0)
        return r;
    source = restore_backing(domain, domain->source, "type", "memfd", record->source, "anonymous");
    access = restore_backing(domain, domain->access, "mode", "shared", record->access, "private");
    if (source < 0 || access < 0)
        return -ENOMEM;
    if (is(record->backing, ADDED) && domain->backing != XML_NONE &&
        count_children(domain, domain->backing) == (size_t)source + (size_t)access)
        return xml_remove(&domain->xml, domain->backing);
    if (source)
        r = xml_remove(&domain->xml, domain->source);
    if (r == 0 && access)
        r = xml_remove(&domain->xml, domain->access);
    return r;
}

/* The number of the PCI bus that a device is on; or -ENOENT. */
static int bus_of(const struct domain *domain, size_t address)
{
    _cleanup_free_ char *text = NULL;
    long bus;

    if (address == XML_NONE || !xml_attribute_is(&domain->xml, address, "type", "pci"))
        return -ENOENT;
    text = xml_attribute_copy(&domain->xml, address, "bus");
    bus = text ? strtol(text, NULL, 0) : -1;
    return bus >= 0 && bus <= UINT8_MAX ? (int)bus : -ENOENT;
}

/* The port that libvirt added for the share, if nothing else is on it. */
static int remove_port(struct domain *domain, const struct record *record)
{
    int bus = bus_of(domain, domain_child(domain, domain->share, "address"));
    size_t port = XML_NONE, n_users = 0;
    char index[16];
    uint64_t ports;

    if (bus < 0 || !record->ports || parse_u64(record->ports, strlen(record->ports), &ports) < 0 ||
        (uint64_t)bus <= ports)
        return 0;
    snprintf(index, sizeof(index), "%d", bus);
    FOR_EACH_CHILD (i, domain, domain->devices, "controller")
        if (xml_attribute_is(&domain->xml, i, "type", "pci") &&
            xml_attribute_is(&domain->xml, i, "index", index))
            port = i;
    for (size_t i = domain->devices + 1; i < domain->xml.n; i++)
        if (domain->xml.elements[i].parent == domain->devices)
            n_users += bus_of(domain, domain_child(domain, i, "address")) == bus;
    return port != XML_NONE && n_users == 1 ? xml_remove(&domain->xml, port) : 0;
}

static int remove_share(struct domain *domain, const struct record *record)
{
    int r;

    if (domain->share == XML_NONE || !is(record->device, ADDED) ||
        !domain_share_is_virtiofs(domain))
        return 0;
    r = remove_port(domain, record);
    return r < 0 ? r : xml_remove(&domain->xml, domain->share);
}

static int remove_record(struct domain *domain, const struct record *record)
{
    bool alone = count_children(domain, domain->metadata) == 1;

    return xml_remove(&domain->xml,
                      alone && is(record->metadata, ADDED) ? domain->metadata : domain->record);
}

int domain_xml_detach(const char *xml, size_t length, char **ret, const char **ret_problem)
{
    _cleanup_(record_deinit) struct record record = {0};
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = domain_parse(&domain, xml, length);

    *ret_problem = "libvirt gave no domain's XML";
    if (r < 0)
        return r;
    if (domain.record == XML_NONE) {
        *ret_problem = "its share was not attached by virtjoule: take it out as it was put in";
        return domain.share == XML_NONE ? DOMAIN_XML_UNCHANGED : -ENOENT;
    }
    record_read(&domain, &record);
    r = remove_share(&domain, &record);
    if (r == 0 && !others_need_shared_memory(&domain))
        r = restore_memory(&domain, &record);
    if (r == 0)
        r = remove_record(&domain, &record);
    if (r == 0)
        r = xml_text_apply(&domain.xml, ret);
    return r < 0 ? r : DOMAIN_XML_CHANGED;
}
