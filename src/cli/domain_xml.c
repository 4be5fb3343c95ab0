/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/domain_xml_internal.h"
#include "util/cleanup.h"

void domain_deinit(struct domain *domain)
{
    xml_text_deinit(&domain->xml);
}

size_t domain_child(const struct domain *domain, size_t parent, const char *name)
{
    return parent == XML_NONE ? XML_NONE : xml_child(&domain->xml, parent, name);
}

static size_t find_record(const struct domain *domain)
{
    const struct xml_text *xml = &domain->xml;

    for (size_t i = domain->metadata; i < xml->n; i++)
        if (xml->elements[i].parent == domain->metadata && xml->elements[i].uri &&
            strcmp(xml->elements[i].uri, RECORD_URI) == 0)
            return i;
    return XML_NONE;
}

static size_t find_share(const struct domain *domain)
{
    FOR_EACH_CHILD (i, domain, domain->devices, "filesystem") {
        size_t target = domain_child(domain, i, "target");

        if (target != XML_NONE && xml_attribute_is(&domain->xml, target, "dir", DOMAIN_SHARE_TAG))
            return i;
    }
    return XML_NONE;
}

int domain_parse(struct domain *ret, const char *text, size_t length)
{
    static const char root[] = "domain";
    int r = xml_text_parse(&ret->xml, text, length);

    if (r < 0)
        return r;
    if (ret->xml.elements[0].name_length != strlen(root) ||
        memcmp(text + ret->xml.elements[0].start + 1, root, strlen(root)) != 0)
        return -EINVAL;
    ret->metadata = domain_child(ret, 0, "metadata");
    ret->record = ret->metadata == XML_NONE ? XML_NONE : find_record(ret);
    ret->backing = domain_child(ret, 0, "memoryBacking");
    ret->source = domain_child(ret, ret->backing, "source");
    ret->access = domain_child(ret, ret->backing, "access");
    ret->numa = domain_child(ret, domain_child(ret, 0, "cpu"), "numa");
    ret->devices = domain_child(ret, 0, "devices");
    ret->share = find_share(ret);
    /* libvirt always writes these, and with content. */
    if (domain_child(ret, 0, "memory") == XML_NONE || ret->devices == XML_NONE ||
        ret->xml.elements[ret->devices].content == ret->xml.elements[ret->devices].end)
        return -EINVAL;
    return 0;
}

int domain_set_attribute(struct domain *domain, size_t element, const char *name, const char *value)
{
    size_t offset, length;

    return xml_attribute(&domain->xml, element, name, &offset, &length)
               ? xml_replace(&domain->xml, offset, length, value)
               : -EINVAL;
}

/* Memory. */

bool domain_backing_is_shared(const struct domain *domain)
{
    return domain->access != XML_NONE &&
           xml_attribute_is(&domain->xml, domain->access, "mode", "shared");
}

/* As libvirt has it: a cell's own mode goes before that of the whole. */
bool domain_access_is_shared(const struct domain *domain)
{
    bool shared = domain_backing_is_shared(domain);
    size_t numa = domain->numa, n_cells = 0, n_shared = 0;

    FOR_EACH_CHILD (cell, domain, numa, "cell") {
        n_cells++;
        n_shared += xml_attribute_is(&domain->xml, cell, "memAccess", "shared") ||
                    (shared && !xml_attribute_is(&domain->xml, cell, "memAccess", "private"));
    }
    return n_cells > 0 ? n_shared == n_cells : shared;
}

/* A memory device's own mode goes before all others. */
bool domain_has_private_device(const struct domain *domain)
{
    FOR_EACH_CHILD (memory, domain, domain->devices, "memory")
        if (xml_attribute_is(&domain->xml, memory, "access", "private"))
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
    return domain->source != XML_NONE &&
           xml_attribute_is(&domain->xml, domain->source, "type", "anonymous");
}

bool domain_has_huge_pages(const struct domain *domain)
{
    return domain_child(domain, domain->backing, "hugepages") != XML_NONE;
}

bool domain_memory_is_shared(const struct domain *domain)
{
    return domain_access_is_shared(domain) && !domain_has_private_device(domain) &&
           (!domain_source_is_anonymous(domain) || domain_has_huge_pages(domain));
}

/* The share's device. */

bool domain_share_is_virtiofs(const struct domain *domain)
{
    size_t driver = domain_child(domain, domain->share, "driver");

    return driver != XML_NONE && xml_attribute_is(&domain->xml, driver, "type", "virtiofs");
}

char *domain_escape(const char *text)
{
    char *escaped = malloc(6 * strlen(text) + 1), *p = escaped;

    if (!escaped)
        return NULL;
    for (; *text; text++) {
        if (*text == '&')
            p = stpcpy(p, "&amp;");
        else if (*text == '<')
            p = stpcpy(p, "&lt;");
        else if (*text == '\'')
            p = stpcpy(p, "&apos;");
        else
            *p++ = *text;
    }
    *p = '\0';
    return escaped;
}

char *domain_xml_device(const struct domain_share *share, int indentation)
{
    _cleanup_free_ char *directory = domain_escape(share->directory);
    _cleanup_free_ char *virtiofsd = share->virtiofsd ? domain_escape(share->virtiofsd) : NULL;
    int in = indentation;
    char *text;

    if (!directory || (share->virtiofsd && !virtiofsd) ||
        asprintf(&text,
                 "<filesystem type='mount' accessmode='passthrough'>\n"
                 "%*s  <driver type='virtiofs'/>\n"
                 "%*s  <binary%s%s%s>\n"
                 "%*s    <cache mode='none'/>\n"
                 "%*s  </binary>\n"
                 "%*s  <source dir='%s'/>\n"
                 "%*s  <target dir='" DOMAIN_SHARE_TAG "'/>\n"
                 "%*s</filesystem>",
                 in, "", in, "", virtiofsd ? " path='" : "", virtiofsd ? virtiofsd : "",
                 virtiofsd ? "'" : "", in, "", in, "", in, "", directory, in, "", in, "") < 0)
        return NULL;
    return text;
}

/* The record. */

/* Each attribute and where it is kept. */
static const struct {
    const char *name;
    size_t offset;
} attributes[] = {
    {"device", offsetof(struct record, device)},     {"ports", offsetof(struct record, ports)},
    {"metadata", offsetof(struct record, metadata)}, {"backing", offsetof(struct record, backing)},
    {"source", offsetof(struct record, source)},     {"access", offsetof(struct record, access)},
    {"cells", offsetof(struct record, cells)},
};

#define N_ATTRIBUTES (sizeof(attributes) / sizeof(attributes[0]))

static char **record_field(const struct record *record, size_t i)
{
    return (char **)((char *)record + attributes[i].offset);
}

void record_deinit(struct record *record)
{
    for (size_t i = 0; i < N_ATTRIBUTES; i++)
        free(*record_field(record, i));
}

/* Nothing but what we write: it goes into a text again. */
static char *copy_plain(const struct domain *domain, const char *name)
{
    _cleanup_free_ char *value = xml_attribute_copy(&domain->xml, domain->record, name);

    return value && value[strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789,")] == '\0'
               ? TAKE_PTR(value)
               : NULL;
}

void record_read(const struct domain *domain, struct record *ret)
{
    if (domain->record == XML_NONE)
        return;
    for (size_t i = 0; i < N_ATTRIBUTES; i++)
        *record_field(ret, i) = copy_plain(domain, attributes[i].name);
}

int record_format(const struct record *record, char **ret)
{
    size_t length;
    FILE *stream = open_memstream(ret, &length);

    if (!stream)
        return -ENOMEM;
    fputs("<virtjoule:share xmlns:virtjoule=\"" RECORD_URI "\"", stream);
    for (size_t i = 0; i < N_ATTRIBUTES; i++)
        if (*record_field(record, i))
            fprintf(stream, " %s=\"%s\"", attributes[i].name, *record_field(record, i));
    fputs("/>", stream);
    return fclose(stream) == 0 ? 0 : -ENOMEM;
}

/* Looking. */

int domain_xml_state(const char *xml, size_t length, struct domain_state *ret)
{
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = domain_parse(&domain, xml, length);

    if (r < 0)
        return r;
    *ret = (struct domain_state){
        .share = domain.share != XML_NONE && domain_share_is_virtiofs(&domain),
        .shared_memory = domain_memory_is_shared(&domain),
    };
    return 0;
}

char *domain_xml_share_device(const char *xml, size_t length)
{
    _cleanup_(domain_deinit) struct domain domain = {0};
    const struct xml_element *share;

    if (domain_parse(&domain, xml, length) < 0 || domain.share == XML_NONE)
        return NULL;
    share = &domain.xml.elements[domain.share];
    return strndup(xml + share->start, share->end - share->start);
}
