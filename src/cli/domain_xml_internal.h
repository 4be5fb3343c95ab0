/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of domain_xml.h share: domain_xml.c (looking), domain_xml_attach.c and
   domain_xml_detach.c. */

#include "cli/domain_xml.h"
#include "util/xml_text.h"

#define RECORD_URI "urn:virtjoule:share:1"
#define ADDED "added"

/** A domain's XML and the elements that matter, as indices or XML_NONE. */
struct domain {
    struct xml_text xml;
    size_t metadata;
    size_t record;
    size_t backing; /* memoryBacking, and within it */
    size_t source;
    size_t access;
    size_t numa; /* of the CPU: holds the cells */
    size_t devices;
    size_t share; /* the file system with our tag */
};

/** @return 0; -EINVAL: no domain's XML; -ENOMEM. To be given to domain_deinit() in any case. */
int domain_parse(struct domain *ret, const char *text, size_t length);
void domain_deinit(struct domain *domain);

/** The first child of that name; of XML_NONE there is none. */
size_t domain_child(const struct domain *domain, size_t parent, const char *name);

/* Each child of that name in turn. */
#define FOR_EACH_CHILD(i, domain, parent, name)                                                    \
    for (size_t i = domain_child((domain), (parent), (name)); i != XML_NONE;                       \
         i = xml_next_child(&(domain)->xml, (parent), (name), i))

/** Replaces the value of an attribute that is there. @return 0, -EINVAL or -ENOMEM */
int domain_set_attribute(struct domain *domain, size_t element, const char *name,
                         const char *value);

/** Whether all cells, or without any the whole, have shared memory, wherever it comes from. */
bool domain_access_is_shared(const struct domain *domain);

/** Whether memoryBacking's mode, which holds for cells without their own, is shared. */
bool domain_backing_is_shared(const struct domain *domain);

/** Whether a memory device is private: its own mode goes before all others. */
bool domain_has_private_device(const struct domain *domain);

/** Whether the source of memory is one that no other process can map. */
bool domain_source_is_anonymous(const struct domain *domain);
bool domain_has_huge_pages(const struct domain *domain);

/** Whether virtiofsd can map the domain's memory. */
bool domain_memory_is_shared(const struct domain *domain);

/** Whether the file system with our tag is a virtiofs. */
bool domain_share_is_virtiofs(const struct domain *domain);

/** The text of an attribute in single quotes, in new memory; NULL when out of memory. */
char *domain_escape(const char *text);

/* What was changed: NULL for nothing, "added" where there was none, else the former value. */
struct record {
    char *device;
    char *ports; /* the highest PCI controller before: libvirt may add one for the device */
    char *metadata;
    char *backing;
    char *source;
    char *access;
    char *cells; /* the private ones, by id, with a comma behind each */
};

/** Reads the record, if there is one, into a zeroed struct. */
void record_read(const struct domain *domain, struct record *ret);
void record_deinit(struct record *record);

/** The record as an element. @return 0 or -ENOMEM */
int record_format(const struct record *record, char **ret);
