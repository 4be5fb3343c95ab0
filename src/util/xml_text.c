/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/xml_text.h"

#include <errno.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* More than any domain has. */
#define TEXT_MAX (16 << 20)
#define ELEMENTS_MAX (1 << 20)

struct xml_edit {
    size_t offset;
    size_t length;
    size_t order;
    char *text;
};

/* What the parser's callbacks fill. */
struct scan {
    xmlParserCtxt *parser;
    struct xml_text *xml;
    size_t size;
    size_t open; /* the innermost element that has not ended, or XML_NONE */
    int error;
};

static void stop(struct scan *scan, int error)
{
    if (scan->error == 0)
        scan->error = error;
    xmlStopParser(scan->parser);
}

/* Where the parser is: behind what it tells of. */
static size_t position(const struct scan *scan)
{
    long offset = xmlByteConsumed(scan->parser);

    return offset < 0 || (size_t)offset > scan->xml->length ? 0 : (size_t)offset;
}

static struct xml_element *add_element(struct scan *scan)
{
    struct xml_text *xml = scan->xml;

    if (xml->n == ELEMENTS_MAX)
        return NULL;
    if (xml->n == scan->size) {
        size_t size = scan->size ? 2 * scan->size : 64;
        struct xml_element *grown = realloc(xml->elements, size * sizeof(*grown));

        if (!grown)
            return NULL;
        xml->elements = grown;
        scan->size = size;
    }
    return &xml->elements[xml->n++];
}

/* The parser stands before the '>' or "/>" of the start tag. No '<' can be within it. */
static void on_start(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                     int n_namespaces, const xmlChar **namespaces, int n_attributes,
                     int n_defaulted, const xmlChar **attributes)
{
    struct scan *scan = data;
    const char *text = scan->xml->text;
    size_t at = position(scan);
    const char *start = memrchr(text, '<', at);
    size_t name_length = strlen((const char *)name);
    struct xml_element *element;

    if (prefix)
        name_length += strlen((const char *)prefix) + 1;
    /* Where an encoding or an entity makes places uncertain, nothing is to be edited. */
    if (!start || at == scan->xml->length || (text[at] != '>' && text[at] != '/') ||
        at - (size_t)(start - text) <= name_length) {
        stop(scan, -EINVAL);
        return;
    }
    element = add_element(scan);
    if (!element) {
        stop(scan, -ENOMEM);
        return;
    }
    *element = (struct xml_element){
        .parent = scan->open == XML_NONE ? 0 : scan->open,
        .start = (size_t)(start - text),
        .content = text[at] == '>' ? at + 1 : 0,
        .name_length = name_length,
        .uri = uri ? strdup((const char *)uri) : NULL,
    };
    scan->open = scan->xml->n - 1;
    if (uri && !element->uri)
        stop(scan, -ENOMEM);
}

static void on_end(void *data, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    struct scan *scan = data;
    const char *text = scan->xml->text;
    size_t at = position(scan);
    struct xml_element *element;

    if (scan->error)
        return;
    element = &scan->xml->elements[scan->open];
    if (at == 0 || at <= element->start || text[at - 1] != '>') {
        stop(scan, -EINVAL);
        return;
    }
    element->end = at;
    if (element->content == 0)
        element->content = element->content_end = at;
    else
        element->content_end = (size_t)((const char *)memrchr(text, '<', at) - text);
    scan->open = element == scan->xml->elements ? XML_NONE : element->parent;
}

static void on_document_type(void *data, const xmlChar *name, const xmlChar *external,
                             const xmlChar *system)
{
    stop(data, -EINVAL);
}

static void on_message(void *data, const char *format, ...)
{
}

int xml_text_parse(struct xml_text *ret, const char *text, size_t length)
{
    static xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC,
        .startElementNs = on_start,
        .endElementNs = on_end,
        .internalSubset = on_document_type,
        .error = on_message,
        .warning = on_message,
        .fatalError = on_message,
    };
    struct scan scan = {.xml = ret, .open = XML_NONE};
    bool well_formed;

    *ret = (struct xml_text){.text = text, .length = length};
    if (length == 0 || length > TEXT_MAX)
        return -EINVAL;
    scan.parser = xmlCreateMemoryParserCtxt(text, (int)length);
    if (!scan.parser)
        return -ENOMEM;
    memcpy(scan.parser->sax, &handler, sizeof(handler));
    scan.parser->userData = &scan;
    xmlCtxtUseOptions(scan.parser, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlParseDocument(scan.parser);
    well_formed = scan.parser->wellFormed;
    xmlFreeDoc(scan.parser->myDoc);
    xmlFreeParserCtxt(scan.parser);
    if (scan.error)
        return scan.error;
    return well_formed && ret->n > 0 ? 0 : -EINVAL;
}

void xml_text_deinit(struct xml_text *xml)
{
    for (size_t i = 0; i < xml->n; i++)
        free(xml->elements[i].uri);
    for (size_t i = 0; i < xml->n_edits; i++)
        free(xml->edits[i].text);
    free(xml->elements);
    free(xml->edits);
    *xml = (struct xml_text){0};
}

size_t xml_next_child(const struct xml_text *xml, size_t parent, const char *name, size_t after)
{
    size_t length = strlen(name);

    for (size_t i = (after == XML_NONE ? parent : after) + 1;
         i < xml->n && xml->elements[i].start < xml->elements[parent].end; i++) {
        const struct xml_element *element = &xml->elements[i];

        if (element->parent == parent && !element->uri && element->name_length == length &&
            memcmp(xml->text + element->start + 1, name, length) == 0)
            return i;
    }
    return XML_NONE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The parser has found the tag well-formed. */
bool xml_attribute(const struct xml_text *xml, size_t element, const char *name, size_t *ret_offset,
                   size_t *ret_length)
{
    const char *p =
        xml->text + xml->elements[element].start + 1 + xml->elements[element].name_length;
    size_t length = strlen(name);

    for (;;) {
        const char *key, *key_end, *value;
        char quote;

        while (is_blank(*p))
            p++;
        if (*p == '>' || *p == '/')
            return false;
        for (key = p; *p != '=' && !is_blank(*p); p++)
            ;
        key_end = p;
        while (*p != '\'' && *p != '"')
            p++;
        quote = *p++;
        for (value = p; *p != quote; p++)
            ;
        if ((size_t)(key_end - key) == length && memcmp(key, name, length) == 0) {
            *ret_offset = (size_t)(value - xml->text);
            *ret_length = (size_t)(p - value);
            return true;
        }
        p++;
    }
}

bool xml_attribute_is(const struct xml_text *xml, size_t element, const char *name,
                      const char *value)
{
    size_t offset, length;

    return xml_attribute(xml, element, name, &offset, &length) && length == strlen(value) &&
           memcmp(xml->text + offset, value, length) == 0;
}

char *xml_attribute_copy(const struct xml_text *xml, size_t element, const char *name)
{
    size_t offset, length;

    return xml_attribute(xml, element, name, &offset, &length) ? strndup(xml->text + offset, length)
                                                               : NULL;
}

int xml_indentation(const struct xml_text *xml, size_t element)
{
    const char *start = xml->text + xml->elements[element].start, *p = start;

    while (p > xml->text && p[-1] == ' ' && start - p < 64)
        p--;
    return p > xml->text && p[-1] == '\n' ? (int)(start - p) : 0;
}

int xml_replace(struct xml_text *xml, size_t offset, size_t length, const char *text)
{
    struct xml_edit *grown = realloc(xml->edits, (xml->n_edits + 1) * sizeof(*grown));
    char *copy = strdup(text);

    if (grown)
        xml->edits = grown;
    if (!grown || !copy) {
        free(copy);
        return -ENOMEM;
    }
    grown[xml->n_edits] = (struct xml_edit){offset, length, xml->n_edits, copy};
    xml->n_edits++;
    return 0;
}

int xml_remove(struct xml_text *xml, size_t element)
{
    size_t start = xml->elements[element].start;

    while (start > 0 && is_blank(xml->text[start - 1]))
        start--;
    return xml_replace(xml, start, xml->elements[element].end - start, "");
}

static int compare_edits(const void *a, const void *b)
{
    const struct xml_edit *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

int xml_text_apply(struct xml_text *xml, char **ret)
{
    size_t length = xml->length + 1, from = 0;
    char *text, *p;

    if (xml->n_edits > 0)
        qsort(xml->edits, xml->n_edits, sizeof(*xml->edits), compare_edits);
    for (size_t i = 0; i < xml->n_edits; i++)
        length += strlen(xml->edits[i].text);
    text = p = malloc(length);
    if (!text)
        return -ENOMEM;
    for (size_t i = 0; i < xml->n_edits; i++) {
        const struct xml_edit *edit = &xml->edits[i];

        p = mempcpy(p, xml->text + from, edit->offset - from);
        p = stpcpy(p, edit->text);
        from = edit->offset + edit->length;
    }
    p = mempcpy(p, xml->text + from, xml->length - from);
    *p = '\0';
    *ret = text;
    return 0;
}
