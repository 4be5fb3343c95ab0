/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * XML from outside as a tree of libxml2, which tree.h describes; here is what all users of such
 * a tree have in common. Names are those of elements and attributes without a name space.
 */

#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"

/* The longest text that libvirt passes on (REMOTE_STRING_MAX of its protocol). */
#define XML_TEXT_MAX (4 << 20)

DEFINE_CLEANUP(xmlDocPtr, xmlFreeDoc);
#define _cleanup_xml_ _cleanup_(cleanup_xmlFreeDoc)

/**
 * Reads a text as libvirt does: in UTF-8, blanks between elements are not kept. No entity is
 * defined or expanded, no file and no host is asked.
 * @param text  any bytes; need not be NUL-terminated
 * @return 0; -EINVAL: not well-formed, above XML_TEXT_MAX bytes, or with a document type; -ENOMEM.
 *         The document has a root element
 */
int xml_parse(const char *text, size_t length, xmlDoc **ret);

/** An element's text in new memory, indented by two blanks a level, with a newline at its end.
    @return NULL when out of memory */
char *xml_print(xmlNode *element);

/** Whether a node is an element of that name. */
bool xml_is(const xmlNode *node, const char *name);

/** The first child of that name. @param parent  may be NULL. @return NULL: there is none */
xmlNode *xml_child(const xmlNode *parent, const char *name);

/** The next sibling of that name. @return NULL: there is none */
xmlNode *xml_next(const xmlNode *element, const char *name);

/* Each child of that name in turn. */
#define XML_FOR_EACH_CHILD(child, parent, name)                                                    \
    for (xmlNode *child = xml_child(parent, name); child; child = xml_next(child, name))

/** An attribute's value in new memory. @param element  may be NULL
    @return NULL: there is none, or out of memory */
char *xml_attribute(const xmlNode *element, const char *name);

/** Whether an attribute is there and has that value. @param element  may be NULL */
bool xml_attribute_is(const xmlNode *element, const char *name, const char *value);

/** Adds an empty element behind all children. @param parent  may be NULL
    @return NULL: without a parent, or out of memory */
xmlNode *xml_add(xmlNode *parent, const char *name);

/** Sets or adds an attribute. @param element  may be NULL
    @return whether it was: not without an element, or out of memory */
bool xml_set(xmlNode *element, const char *name, const char *value);
