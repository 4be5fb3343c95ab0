/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of domain_xml.h share: domain_xml.c (looking), domain_xml_attach.c and
   domain_xml_detach.c. */

#include "libvirt/domain_xml.h"
#include "util/xml.h"

/* In the record: there was none before. */
#define ADDED "added"

/** A domain's tree and the elements that matter in it; NULL: there is none. */
struct domain {
    xmlDoc *document;
    xmlNode *root;
    xmlNode *metadata;
    xmlNode *record;  /* of what an attach changed */
    xmlNode *backing; /* memoryBacking, and within it: */
    xmlNode *source;
    xmlNode *access;
    xmlNode *numa; /* of the CPU: holds the cells */
    xmlNode *devices;
    xmlNode *share; /* the file system with our tag */

    /* What editing came to. */
    bool changed;
    int error; /* the first: a negative errno, or 0 */
};

/** Reads a domain that can be edited: with memory and devices, as libvirt always writes it.
    @return 0; -EINVAL: no such XML; -ENOMEM. To be given to domain_deinit() in any case */
int domain_parse(struct domain *ret, const char *text, size_t length);
void domain_deinit(struct domain *domain);

/** The text of a domain after its editing, if nothing failed and anything was changed.
    @return a domain_xml_result or a negative errno */
int domain_print(const struct domain *domain, char **ret);

/* Editing. */

void domain_set(struct domain *domain, xmlNode *element, const char *name, const char *value);
void domain_remove(struct domain *domain, xmlNode *element);

/** Puts an element behind the last child that has one of these names (the list ends with NULL);
    before all children where there is none.
    @param element  owned by the domain from here on; NULL is an error, out of memory */
void domain_insert(struct domain *domain, xmlNode *parent, const char *const *names,
                   xmlNode *element);

/** A new share's device, in no tree; NULL when out of memory. */
xmlNode *domain_new_device(const struct domain_share *share);

/** A new record, without an attribute; NULL when out of memory. */
xmlNode *domain_new_record(xmlDoc *document);

/* Memory. */

/** Whether virtiofsd can map all of the domain's memory. */
bool domain_memory_is_shared(const struct domain *domain);

/** Whether all cells, or without any the whole, have shared memory, wherever it comes from. */
bool domain_access_is_shared(const struct domain *domain);

/** Whether a memory device is private: its own mode goes before all others. */
bool domain_has_private_device(const struct domain *domain);

/** Whether memory comes from a source that no other process can map. */
bool domain_source_is_anonymous(const struct domain *domain);
bool domain_has_huge_pages(const struct domain *domain);

/** Whether a file system is a virtiofs. */
bool filesystem_is_virtiofs(const xmlNode *filesystem);
