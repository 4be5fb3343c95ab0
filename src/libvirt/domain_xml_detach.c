/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt/domain_xml_internal.h"
#include "util/parse.h"

static bool was_added(const struct domain *domain, const char *name)
{
    return xml_attribute_is(domain->record, name, ADDED);
}

/* Devices that the operator added and that other processes serve as well. */
static bool others_need_shared_memory(const struct domain *domain)
{
    XML_FOR_EACH_CHILD(filesystem, domain->devices, "filesystem")
    if (filesystem != domain->share && filesystem_is_virtiofs(filesystem))
        return true;
    for (xmlNode *device = domain->devices->children; device; device = device->next)
        if ((xml_is(device, "interface") || xml_is(device, "disk")) &&
            xml_attribute_is(device, "type", "vhostuser"))
            return true;
    return false;
}

/* Memory. */

/* Where a child of memoryBacking is still as it was set: it goes if it was added, else it gets
   its former value, which can only have been this one. */
static void restore_backing(struct domain *domain, xmlNode *child, const char *attribute,
                            const char *set, const char *former)
{
    if (!xml_attribute_is(child, attribute, set))
        return;
    if (was_added(domain, (const char *)child->name))
        domain_remove(domain, child);
    else if (xml_attribute_is(domain->record, (const char *)child->name, former))
        domain_set(domain, child, attribute, former);
}

static bool is_listed(const char *list, const char *id)
{
    size_t length = strlen(id);

    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, id, length) == 0 && p[length] == ',')
            return true;
    return false;
}

static void restore_memory(struct domain *domain)
{
    _cleanup_free_ char *cells = xml_attribute(domain->record, "cells");

    XML_FOR_EACH_CHILD(cell, domain->numa, "cell")
    {
        _cleanup_free_ char *id = xml_attribute(cell, "id");

        if (id && is_listed(cells, id) && xml_attribute_is(cell, "memAccess", "shared"))
            domain_set(domain, cell, "memAccess", "private");
    }
    restore_backing(domain, domain->source, "type", "memfd", "anonymous");
    restore_backing(domain, domain->access, "mode", "shared", "private");
    if (domain->backing && was_added(domain, "backing") &&
        xmlChildElementCount(domain->backing) == 0)
        domain_remove(domain, domain->backing);
}

/* The device. */

/* The number of the PCI bus that a device is on; or -ENOENT. */
static int bus_of(const xmlNode *device)
{
    const xmlNode *address = xml_child(device, "address");
    _cleanup_free_ char *text = xml_attribute(address, "bus");
    long bus = text ? strtol(text, NULL, 0) : -1;

    return xml_attribute_is(address, "type", "pci") && bus >= 0 && bus <= UINT8_MAX ? (int)bus
                                                                                    : -ENOENT;
}

/* The port that libvirt added for the share, if nothing else is on it. */
static void remove_port(struct domain *domain)
{
    _cleanup_free_ char *recorded = xml_attribute(domain->record, "ports");
    int bus = bus_of(domain->share);
    xmlNode *port = NULL;
    size_t n_users = 0;
    char index[16];
    uint64_t ports;

    if (bus < 0 || !recorded || parse_u64(recorded, strlen(recorded), &ports) < 0 ||
        (uint64_t)bus <= ports)
        return;
    snprintf(index, sizeof(index), "%d", bus);
    XML_FOR_EACH_CHILD(controller, domain->devices, "controller")
    if (xml_attribute_is(controller, "type", "pci") && xml_attribute_is(controller, "index", index))
        port = controller;
    for (xmlNode *device = domain->devices->children; device; device = device->next)
        n_users += bus_of(device) == bus;
    if (port && n_users == 1)
        domain_remove(domain, port);
}

static void remove_share(struct domain *domain)
{
    if (!was_added(domain, "device") || !filesystem_is_virtiofs(domain->share))
        return;
    remove_port(domain);
    domain_remove(domain, domain->share);
    domain->share = NULL;
}

static void remove_record(struct domain *domain)
{
    bool alone = xmlChildElementCount(domain->metadata) == 1 && was_added(domain, "metadata");

    domain_remove(domain, alone ? domain->metadata : domain->record);
    domain->record = NULL;
}

int domain_xml_detach(const char *xml, size_t length, char **ret, const char **ret_problem)
{
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = domain_parse(&domain, xml, length);

    *ret_problem = "libvirt gave no domain's XML";
    if (r < 0)
        return r;
    if (!domain.record) {
        *ret_problem = "its share was not attached by virtjoule: take it out as it was put in";
        return domain.share ? -ENOENT : DOMAIN_XML_UNCHANGED;
    }
    remove_share(&domain);
    if (!others_need_shared_memory(&domain))
        restore_memory(&domain);
    remove_record(&domain);
    return domain_print(&domain, ret);
}
