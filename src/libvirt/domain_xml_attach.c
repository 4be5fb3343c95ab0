/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

#include "libvirt/domain_xml_internal.h"
#include "util/parse.h"
#include "util/paths.h"

/* Notes a former value; one that an earlier attach recorded is older, and stays. */
static void note(struct domain *domain, const char *name, const char *value)
{
    if (!xmlHasNsProp(domain->record, BAD_CAST name, NULL))
        domain_set(domain, domain->record, name, value);
}

/* Memory. */

static void share_cell(struct domain *domain, xmlNode *cell)
{
    _cleanup_free_ char *id = xml_attribute(cell, "id");
    _cleanup_free_ char *former = xml_attribute(domain->record, "cells");
    char *cells;

    if (asprintf(&cells, "%s%s,", former ? former : "", id ? id : "") < 0) {
        domain->error = -ENOMEM;
        return;
    }
    domain_set(domain, domain->record, "cells", cells);
    domain_set(domain, cell, "memAccess", "shared");
    free(cells);
}

/* Makes private cells shared. @return whether any memory has the mode of the whole domain: that
   of cells without a mode of their own, or all where there are no cells */
static bool share_cells(struct domain *domain)
{
    size_t n_cells = 0, n_own = 0;

    XML_FOR_EACH_CHILD(cell, domain->numa, "cell")
    {
        bool is_private = xml_attribute_is(cell, "memAccess", "private");

        n_cells++;
        n_own += is_private || xml_attribute_is(cell, "memAccess", "shared");
        if (is_private)
            share_cell(domain, cell);
    }
    return n_cells == 0 || n_own < n_cells;
}

/* Sets the attribute of a child of memoryBacking, or adds the child; both under its name in the
   record. */
static void set_backing(struct domain *domain, const char *name, const char *attribute,
                        const char *value)
{
    static const char *const before[] = {"hugepages", "nosharepages", "locked", "source", NULL};
    xmlNode *child = xml_child(domain->backing, name);
    _cleanup_free_ char *former = xml_attribute(child, attribute);

    if (child && !former)
        domain->error = -EINVAL;
    if (domain->error < 0)
        return;
    note(domain, name, child ? former : ADDED);
    if (!child) {
        child = xmlNewNode(NULL, BAD_CAST name);
        domain_insert(domain, domain->backing, before, child);
    }
    domain_set(domain, child, attribute, value);
}

static void share_memory(struct domain *domain)
{
    static const char *const before[] = {"memory", "currentMemory", NULL};
    bool memfd =
        !domain_has_huge_pages(domain) && (domain_source_is_anonymous(domain) ||
                                           (!domain->source && !domain_access_is_shared(domain)));
    bool whole = share_cells(domain) && !xml_attribute_is(domain->access, "mode", "shared");

    if (!domain->backing && (memfd || whole)) {
        note(domain, "backing", ADDED);
        domain->backing = xmlNewNode(NULL, BAD_CAST "memoryBacking");
        domain_insert(domain, domain->root, before, domain->backing);
    }
    if (memfd)
        set_backing(domain, "source", "type", "memfd");
    if (whole)
        set_backing(domain, "access", "mode", "shared");
}

/* The device. */

static unsigned highest_port(const struct domain *domain)
{
    unsigned highest = 0;

    XML_FOR_EACH_CHILD(controller, domain->devices, "controller")
    {
        _cleanup_free_ char *text = xml_attribute(controller, "index");
        uint64_t index;

        if (xml_attribute_is(controller, "type", "pci") && text &&
            parse_u64(text, strlen(text), &index) == 0 && index > highest && index <= UINT8_MAX)
            highest = (unsigned)index;
    }
    return highest;
}

static void add_share(struct domain *domain, const struct domain_share *share)
{
    static const char *const before[] = {"emulator", "disk",       "controller",
                                         "lease",    "filesystem", NULL};
    char ports[16];

    snprintf(ports, sizeof(ports), "%u", highest_port(domain));
    domain_set(domain, domain->record, "ports", ports);
    note(domain, "device", ADDED);
    domain_insert(domain, domain->devices, before, domain_new_device(share));
}

/* A clone has the directory of the VM that it was cloned from. */
static bool is_named_by_uuid(const char *path)
{
    const char *name = strrchr(path, '/');
    uuid_t uuid;

    return name && uuid_parse(name + 1, uuid) == 0;
}

/* @return 0 or -EEXIST */
static int edit_share(struct domain *domain, const struct domain_share *share)
{
    xmlNode *source = xml_child(domain->share, "source");
    _cleanup_free_ char *directory = xml_attribute(source, "dir");

    if (!domain->share)
        add_share(domain, share);
    else if (!filesystem_is_virtiofs(domain->share) || !directory || !is_named_by_uuid(directory))
        return -EEXIST;
    else if (strcmp(directory, share->directory) != 0)
        domain_set(domain, source, "dir", share->directory);
    return 0;
}

static void add_record(struct domain *domain)
{
    static const char *const before[] = {"name", "uuid", "genid", "title", "description", NULL};

    if (!domain->metadata) {
        note(domain, "metadata", ADDED);
        domain->metadata = xmlNewNode(NULL, BAD_CAST "metadata");
        domain_insert(domain, domain->root, before, domain->metadata);
    }
    xmlAddChild(domain->metadata, domain->record);
}

int domain_xml_attach(const char *xml, size_t length, const struct domain_share *share, char **ret,
                      const char **ret_problem)
{
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = domain_parse(&domain, xml, length);

    *ret_problem = "libvirt gave no domain's XML";
    if (r < 0)
        return r;
    if (xml_child(domain.root, "launchSecurity")) {
        *ret_problem = "it has launchSecurity (such as SEV, SEV-SNP or TDX): its memory is "
                       "encrypted, and virtiofsd cannot share it";
        return -EBUSY;
    }
    if (!domain.record)
        domain.record = domain_new_record(domain.document);
    if (!domain.record)
        return -ENOMEM;
    if (!domain_memory_is_shared(&domain)) {
        if (domain_has_private_device(&domain)) {
            *ret_problem = "it has a memory device with access='private', which virtiofs could "
                           "not reach: set it to shared";
            return -EBUSY;
        }
        share_memory(&domain);
    }
    r = edit_share(&domain, share);
    if (r < 0) {
        *ret_problem = "it has another file system with the tag \"" SHARE_TAG "\"";
        return r;
    }
    if (domain.changed && !domain.record->parent)
        add_record(&domain);
    return domain_print(&domain, ret);
}
