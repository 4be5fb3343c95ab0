/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/domain_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "cli/domain_xml_internal.h"
#include "util/cleanup.h"
#include "util/parse.h"

/* What is recorded already was so before us. */
static int note(char **field, const char *value)
{
    if (!*field)
        *field = strdup(value);
    return *field ? 0 : -ENOMEM;
}

/* A clone has the directory of the VM that it was cloned from. */
static bool is_named_by_uuid(const char *path)
{
    const char *name = strrchr(path, '/');
    uuid_t uuid;

    return name && uuid_parse(name + 1, uuid) == 0;
}

static int insert_line(struct domain *domain, size_t offset, int indentation, const char *text)
{
    _cleanup_free_ char *line = NULL;

    if (asprintf(&line, "\n%*s%s", indentation, "", text) < 0)
        return -ENOMEM;
    return xml_replace(&domain->xml, offset, 0, line);
}

/* Behind the last of these children, where libvirt has it, too. */
static size_t behind_children(const struct domain *domain, size_t parent, const char *const *names)
{
    size_t offset = domain->xml.elements[parent].content;

    for (; *names; names++)
        FOR_EACH_CHILD (i, domain, parent, *names)
            if (domain->xml.elements[i].end > offset)
                offset = domain->xml.elements[i].end;
    return offset;
}

static bool is_empty(const struct domain *domain, size_t element)
{
    return domain->xml.elements[element].content == domain->xml.elements[element].end;
}

/* The modes of cells that are private; those without are what the whole is. */
static int share_cells(struct domain *domain, struct record *record, bool *ret_whole)
{
    size_t numa = domain->numa, n_cells = 0, n_own = 0;

    FOR_EACH_CHILD (cell, domain, numa, "cell") {
        _cleanup_free_ char *id = xml_attribute_copy(&domain->xml, cell, "id");
        char *cells;

        n_cells++;
        if (!xml_attribute_is(&domain->xml, cell, "memAccess", "private")) {
            n_own += xml_attribute_is(&domain->xml, cell, "memAccess", "shared");
            continue;
        }
        n_own++;
        if (asprintf(&cells, "%s%s,", record->cells ? record->cells : "", id ? id : "") < 0)
            return -ENOMEM;
        free(record->cells);
        record->cells = cells;
        if (domain_set_attribute(domain, cell, "memAccess", "shared") < 0)
            return -ENOMEM;
    }
    *ret_whole = n_cells == 0 || n_own < n_cells;
    return 0;
}

static int add_backing(struct domain *domain, bool memfd, bool access, struct record *record)
{
    static const char *const before[] = {"memory", "currentMemory", NULL};
    _cleanup_free_ char *text = NULL, *children = NULL;
    int in = xml_indentation(&domain->xml, domain_child(domain, 0, "memory"));
    int r = 0;

    if (asprintf(&children, "%s%s%*s%s", memfd ? "<source type='memfd'/>" : "",
                 memfd && access ? "\n" : "", memfd && access ? in + 2 : 0, "",
                 access ? "<access mode='shared'/>" : "") < 0 ||
        asprintf(&text, "<memoryBacking>\n%*s  %s\n%*s</memoryBacking>", in, "", children, in, "") <
            0)
        return -ENOMEM;
    if (memfd)
        r = note(&record->source, ADDED);
    if (r == 0 && access)
        r = note(&record->access, ADDED);
    if (r == 0)
        r = note(&record->backing, ADDED);
    if (r < 0)
        return r;
    if (domain->backing != XML_NONE) {
        const struct xml_element *empty = &domain->xml.elements[domain->backing];

        return xml_replace(&domain->xml, empty->start, empty->end - empty->start, text);
    }
    return insert_line(domain, behind_children(domain, 0, before), in, text);
}

/* Sets the mode of a child of memoryBacking, or adds the child. */
static int set_backing(struct domain *domain, size_t child, const char *attribute,
                       const char *value, const char *element, char **field)
{
    int in = xml_indentation(&domain->xml, domain->backing) + 2;
    _cleanup_free_ char *former = NULL;
    int r;

    if (child == XML_NONE) {
        static const char *const before[] = {"hugepages", "nosharepages", "locked", "source", NULL};

        r = note(field, ADDED);
        return r < 0 ? r
                     : insert_line(domain, behind_children(domain, domain->backing, before), in,
                                   element);
    }
    former = xml_attribute_copy(&domain->xml, child, attribute);
    if (!former)
        return -EINVAL;
    r = note(field, former);
    return r < 0 ? r : domain_set_attribute(domain, child, attribute, value);
}

static int share_memory(struct domain *domain, struct record *record)
{
    bool whole, memfd = !domain_has_huge_pages(domain) &&
                        (domain_source_is_anonymous(domain) ||
                         (domain->source == XML_NONE && !domain_access_is_shared(domain)));
    int r = share_cells(domain, record, &whole);

    if (r < 0)
        return r;
    whole = whole && !domain_backing_is_shared(domain);
    if (domain->backing == XML_NONE || is_empty(domain, domain->backing))
        return memfd || whole ? add_backing(domain, memfd, whole, record) : 0;
    if (memfd)
        r = set_backing(domain, domain->source, "type", "memfd", "<source type='memfd'/>",
                        &record->source);
    if (r == 0 && whole)
        r = set_backing(domain, domain->access, "mode", "shared", "<access mode='shared'/>",
                        &record->access);
    return r;
}

static unsigned highest_port(const struct domain *domain)
{
    unsigned highest = 0;

    FOR_EACH_CHILD (controller, domain, domain->devices, "controller") {
        size_t offset, length;
        uint64_t index;

        if (xml_attribute_is(&domain->xml, controller, "type", "pci") &&
            xml_attribute(&domain->xml, controller, "index", &offset, &length) &&
            parse_u64(domain->xml.text + offset, length, &index) == 0 && index > highest &&
            index <= UINT8_MAX)
            highest = (unsigned)index;
    }
    return highest;
}

static int add_share(struct domain *domain, const struct domain_share *share, struct record *record)
{
    static const char *const before[] = {"emulator", "disk",       "controller",
                                         "lease",    "filesystem", NULL};
    int in = xml_indentation(&domain->xml, domain->devices) + 2;
    _cleanup_free_ char *text = domain_xml_device(share, in);
    char ports[16];
    int r;

    if (!text)
        return -ENOMEM;
    snprintf(ports, sizeof(ports), "%u", highest_port(domain));
    free(record->ports);
    record->ports = NULL;
    r = note(&record->ports, ports);
    if (r == 0)
        r = note(&record->device, ADDED);
    return r < 0 ? r
                 : insert_line(domain, behind_children(domain, domain->devices, before), in, text);
}

/* @return whether it is to be changed, or -EEXIST */
static int check_share(const struct domain *domain, const char *escaped_directory)
{
    size_t source = domain_child(domain, domain->share, "source");
    _cleanup_free_ char *directory =
        source == XML_NONE ? NULL : xml_attribute_copy(&domain->xml, source, "dir");

    if (!domain_share_is_virtiofs(domain) || !directory || !is_named_by_uuid(directory))
        return -EEXIST;
    return strcmp(directory, escaped_directory) != 0;
}

static int write_record(struct domain *domain, struct record *record)
{
    static const char *const before[] = {"name", "uuid", "genid", "title", "description", NULL};
    _cleanup_free_ char *text = NULL, *metadata = NULL;
    int in = xml_indentation(&domain->xml, domain_child(domain, 0, "memory"));
    bool none = domain->metadata == XML_NONE || is_empty(domain, domain->metadata);
    int r = none ? note(&record->metadata, ADDED) : 0;

    if (r == 0)
        r = record_format(record, &text);
    if (r < 0)
        return r;
    if (domain->record != XML_NONE) {
        const struct xml_element *old = &domain->xml.elements[domain->record];

        return xml_replace(&domain->xml, old->start, old->end - old->start, text);
    }
    if (!none) {
        size_t last = domain->metadata;

        for (size_t i = last + 1; i < domain->xml.n; i++)
            if (domain->xml.elements[i].parent == domain->metadata)
                last = i;
        return insert_line(domain,
                           last == domain->metadata ? domain->xml.elements[last].content
                                                    : domain->xml.elements[last].end,
                           in + 2, text);
    }
    if (asprintf(&metadata, "<metadata>\n%*s  %s\n%*s</metadata>", in, "", text, in, "") < 0)
        return -ENOMEM;
    if (domain->metadata != XML_NONE) {
        const struct xml_element *empty = &domain->xml.elements[domain->metadata];

        return xml_replace(&domain->xml, empty->start, empty->end - empty->start, metadata);
    }
    return insert_line(domain, behind_children(domain, 0, before), in, metadata);
}

static int edit_share(struct domain *domain, const struct domain_share *share,
                      struct record *record, const char **ret_problem)
{
    _cleanup_free_ char *directory = domain_escape(share->directory);
    int r;

    if (!directory)
        return -ENOMEM;
    if (domain->share == XML_NONE)
        return add_share(domain, share, record);
    r = check_share(domain, directory);
    if (r == -EEXIST)
        *ret_problem = "it has another file system with the tag \"" DOMAIN_SHARE_TAG "\"";
    return r <= 0 ? r
                  : domain_set_attribute(domain, domain_child(domain, domain->share, "source"),
                                         "dir", directory);
}

int domain_xml_attach(const char *xml, size_t length, const struct domain_share *share, char **ret,
                      const char **ret_problem)
{
    _cleanup_(record_deinit) struct record record = {0};
    _cleanup_(domain_deinit) struct domain domain = {0};
    int r = domain_parse(&domain, xml, length);

    *ret_problem = "libvirt gave no domain's XML";
    if (r < 0)
        return r;
    record_read(&domain, &record);
    if (!domain_memory_is_shared(&domain)) {
        if (domain_has_private_device(&domain)) {
            *ret_problem = "it has a memory device with access='private', which virtiofs could "
                           "not reach: set it to shared";
            return -EBUSY;
        }
        r = share_memory(&domain, &record);
    }
    if (r == 0)
        r = edit_share(&domain, share, &record, ret_problem);
    if (r < 0 || domain.xml.n_edits == 0)
        return r < 0 ? r : DOMAIN_XML_UNCHANGED;
    r = write_record(&domain, &record);
    if (r == 0)
        r = xml_text_apply(&domain.xml, ret);
    return r < 0 ? r : DOMAIN_XML_CHANGED;
}
