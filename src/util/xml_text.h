/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Small changes to an XML text that leave every other byte as it is. libxml2
 * says where the elements are; edits are made to the text itself.
 */

#include <stdbool.h>
#include <stddef.h>

/** Where an element is: byte offsets into the text. */
struct xml_element {
    size_t parent;      /* its index; the root's is its own, 0 */
    size_t start;       /* of '<' */
    size_t content;     /* behind the '>' of the start tag */
    size_t content_end; /* the '<' of the end tag; both are end for <name/> */
    size_t end;         /* behind the element */
    size_t name_length; /* the name, with its prefix, is behind the '<' */
    char *uri;          /* its name space, or NULL */
};

struct xml_text {
    const char *text;
    size_t length;
    struct xml_element *elements; /* in the order of their start tags */
    size_t n;
    struct xml_edit *edits;
    size_t n_edits;
};

/* For "no such element". */
#define XML_NONE ((size_t)-1)

/**
 * Finds the elements of a text, which is borrowed. Give the result to
 * xml_text_deinit() in any case.
 * @param text  any bytes; UTF-8, without a document type
 * @return 0; -EINVAL: not well-formed, or too large for a domain; -ENOMEM
 */
int xml_text_parse(struct xml_text *ret, const char *text, size_t length);
void xml_text_deinit(struct xml_text *xml);

/** The next child of that name (without name space) behind a sibling, or the first where after is
    XML_NONE. @return its index or XML_NONE */
size_t xml_next_child(const struct xml_text *xml, size_t parent, const char *name, size_t after);

/** The child that is the only one or the first of its name. @return its index or XML_NONE */
static inline size_t xml_child(const struct xml_text *xml, size_t parent, const char *name)
{
    return xml_next_child(xml, parent, name, XML_NONE);
}

/** Whether an attribute is there; its raw value's place. */
bool xml_attribute(const struct xml_text *xml, size_t element, const char *name, size_t *ret_offset,
                   size_t *ret_length);

/** Whether an attribute is there and has that raw value. */
bool xml_attribute_is(const struct xml_text *xml, size_t element, const char *name,
                      const char *value);

/** The attribute's raw value in new memory; NULL where there is none, or out of memory. */
char *xml_attribute_copy(const struct xml_text *xml, size_t element, const char *name);

/** The blanks before the element in its line. @return how many, at most 64 */
int xml_indentation(const struct xml_text *xml, size_t element);

/**
 * Notes to replace bytes, when xml_text_apply() is called. Edits must not overlap;
 * those at one place are made in their order.
 * @param text  copied
 * @return 0 or -ENOMEM
 */
int xml_replace(struct xml_text *xml, size_t offset, size_t length, const char *text);

/** Notes to take an element away, with the blanks before it. @return 0 or -ENOMEM */
int xml_remove(struct xml_text *xml, size_t element);

/** The text with all edits made, NUL-terminated. @return 0 or -ENOMEM */
int xml_text_apply(struct xml_text *xml, char **ret);
