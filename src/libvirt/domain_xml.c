/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/domain_xml.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libvirt/domain_xml_internal.h"
#include "util/paths.h"

#define RECORD_URI "urn:virtjoule:share:1"

static xmlNode *find_record(const xmlNode *metadata)
{
    for (xmlNode *node = metadata ? metadata->children : NULL; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && node->ns &&
            xmlStrEqual(node->ns->href, BAD_CAST RECORD_URI))
            return node;
    return NULL;
}

static xmlNode *find_share(const xmlNode *devices)
{
    XML_FOR_EACH_CHILD(filesystem, devices, "filesystem")
    if (xml_attribute_is(xml_child(filesystem, "target"), "dir", SHARE_TAG))
        return filesystem;
    return NULL;
}

/* As domain_parse(), but any domain is enough that is only looked at. */
static int parse(struct domain *ret, const char *text, size_t length)
{
    int r = xml_parse(text, length, &ret->document);

    if (r < 0)
        return r;
    ret->root = xmlDocGetRootElement(ret->document);
    if (!xml_is(ret->root, "domain"))
        return -EINVAL;
    ret->metadata = xml_child(ret->root, "metadata");
    ret->record = find_record(ret->metadata);
    ret->backing = xml_child(ret->root, "memoryBacking");
    ret->source = xml_child(ret->backing, "source");
    ret->access = xml_child(ret->backing, "access");
    ret->numa = xml_child(xml_child(ret->root, "cpu"), "numa");
    ret->devices = xml_child(ret->root, "devices");
    ret->share = find_share(ret->devices);
    return 0;
}

int domain_parse(struct domain *ret, const char *text, size_t length)
{
    int r = parse(ret, text, length);

    if (r < 0)
        return r;
    return xml_child(ret->root, "memory") && ret->devices && ret->devices->children ? 0 : -EINVAL;
}

void domain_deinit(struct domain *domain)
{
    if (domain->record && !domain->record->parent)
        xmlFreeNode(domain->record);
    xmlFreeDoc(domain->document);
}

int domain_print(const struct domain *domain, char **ret)
{
    char *text;

    if (domain->error < 0)
        return domain->error;
    if (!domain->changed)
        return DOMAIN_XML_UNCHANGED;
    text = xml_print(domain->root);
    if (!text)
        return -ENOMEM;
    *ret = text;
    return DOMAIN_XML_CHANGED;
}

/* Editing. */

static void note_error(struct domain *domain, int error)
{
    if (domain->error == 0)
        domain->error = error;
}

void domain_set(struct domain *domain, xmlNode *element, const char *name, const char *value)
{
    assert(element || domain->error);
    domain->changed = true;
    if (!xml_set(element, name, value))
        note_error(domain, -ENOMEM);
}

void domain_remove(struct domain *domain, xmlNode *element)
{
    assert(element);
    domain->changed = true;
    xmlUnlinkNode(element);
    xmlFreeNode(element);
}

static bool is_one_of(const xmlNode *node, const char *const *names)
{
    while (*names && !xml_is(node, *names))
        names++;
    return *names;
}

void domain_insert(struct domain *domain, xmlNode *parent, const char *const *names,
                   xmlNode *element)
{
    xmlNode *last = NULL;

    domain->changed = true;
    if (!element) {
        note_error(domain, -ENOMEM);
        return;
    }
    for (xmlNode *node = parent->children; node; node = node->next)
        if (is_one_of(node, names))
            last = node;
    if (last)
        xmlAddNextSibling(last, element);
    else if (parent->children)
        xmlAddPrevSibling(parent->children, element);
    else
        xmlAddChild(parent, element);
}

xmlNode *domain_new_device(const struct domain_share *share)
{
    xmlNode *device = xmlNewNode(NULL, BAD_CAST "filesystem"), *binary;

    if (xml_set(device, "type", "mount") && xml_set(device, "accessmode", "passthrough") &&
        xml_set(xml_add(device, "driver"), "type", "virtiofs") &&
        (binary = xml_add(device, "binary")) &&
        (!share->virtiofsd || xml_set(binary, "path", share->virtiofsd)) &&
        xml_set(xml_add(binary, "cache"), "mode", "none") &&
        xml_set(xml_add(device, "source"), "dir", share->directory) &&
        xml_set(xml_add(device, "target"), "dir", SHARE_TAG))
        return device;
    xmlFreeNode(device);
    return NULL;
}

xmlNode *domain_new_record(xmlDoc *document)
{
    xmlNode *record = xmlNewDocNode(document, NULL, BAD_CAST "share", NULL);
    xmlNs *space = record ? xmlNewNs(record, BAD_CAST RECORD_URI, BAD_CAST "virtjoule") : NULL;

    if (space) {
        xmlSetNs(record, space);
        return record;
    }
    xmlFreeNode(record);
    return NULL;
}

/* Memory. */

/* As libvirt has it: a cell's own mode goes before that of the whole. */
bool domain_access_is_shared(const struct domain *domain)
{
    bool shared = xml_attribute_is(domain->access, "mode", "shared");
    size_t n_cells = 0, n_shared = 0;

    XML_FOR_EACH_CHILD(cell, domain->numa, "cell")
    {
        n_cells++;
        n_shared += xml_attribute_is(cell, "memAccess", "shared") ||
                    (shared && !xml_attribute_is(cell, "memAccess", "private"));
    }
    return n_cells > 0 ? n_shared == n_cells : shared;
}

bool domain_has_private_device(const struct domain *domain)
{
    XML_FOR_EACH_CHILD(memory, domain->devices, "memory")
    if (xml_attribute_is(memory, "access", "private"))
        return true;
    return false;
}

/*
 * Whether virtiofsd can map shared memory that is made of this source. Without
 * memfd libvirt backs it with a file in its memory directory, or, of huge pages,
 * with one of theirs: both can be mapped. Anonymous memory cannot, and says so.
 */
bool domain_source_is_anonymous(const struct domain *domain)
{
    return xml_attribute_is(domain->source, "type", "anonymous");
}

bool domain_has_huge_pages(const struct domain *domain)
{
    return xml_child(domain->backing, "hugepages");
}

bool domain_memory_is_shared(const struct domain *domain)
{
    return domain_access_is_shared(domain) && !domain_has_private_device(domain) &&
           (!domain_source_is_anonymous(domain) || domain_has_huge_pages(domain));
}

/* Looking. */

bool filesystem_is_virtiofs(const xmlNode *filesystem)
{
    return xml_attribute_is(xml_child(filesystem, "driver"), "type", "virtiofs");
}

static void read_text(const xmlNode *element, const char *name, char *ret, size_t size)
{
    _cleanup_free_ char *text = xml_attribute(element, name);

    snprintf(ret, size, "%s", text ? text : "");
}

static void read_device(const xmlNode *filesystem, struct virtiofs_device *ret)
{
    const xmlNode *binary = xml_child(filesystem, "binary");

    read_text(xml_child(filesystem, "source"), "dir", ret->source, sizeof(ret->source));
    read_text(xml_child(filesystem, "target"), "dir", ret->tag, sizeof(ret->tag));
    read_text(xml_child(binary, "cache"), "mode", ret->cache, sizeof(ret->cache));
    read_text(binary, "path", ret->binary, sizeof(ret->binary));
}

int domain_xml_read(const char *xml, size_t length, struct domain_virtiofs *ret)
{
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = parse(&domain, xml, length);

    if (r < 0)
        return r;
    *ret = (struct domain_virtiofs){
        .shared_memory = domain_memory_is_shared(&domain),
        .huge_pages = domain_has_huge_pages(&domain),
        .has_share = filesystem_is_virtiofs(domain.share),
    };
    XML_FOR_EACH_CHILD(filesystem, domain.devices, "filesystem")
    if (filesystem_is_virtiofs(filesystem) && ret->n_devices < VIRTIOFS_DEVICES_MAX)
        read_device(filesystem, &ret->devices[ret->n_devices++]);
    return 0;
}

char *domain_xml_canonical(const char *xml, size_t length)
{
    _cleanup_(domain_deinit) struct domain domain = {0};

    return parse(&domain, xml, length) < 0 ? NULL : xml_print(domain.root);
}

char *domain_xml_device(const struct domain_share *share)
{
    xmlNode *device = domain_new_device(share);
    char *text = device ? xml_print(device) : NULL;

    xmlFreeNode(device);
    return text;
}

char *domain_xml_share_device(const char *xml, size_t length)
{
    _cleanup_(domain_deinit) struct domain domain = {0};

    return parse(&domain, xml, length) < 0 || !domain.share ? NULL : xml_print(domain.share);
}
