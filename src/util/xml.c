/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <string.h>

DEFINE_CLEANUP(xmlParserCtxtPtr, xmlFreeParserCtxt);

/* Only a document type can define entities. */
static void refuse_document_type(void *context, const xmlChar *name, const xmlChar *external,
                                 const xmlChar *system)
{
    xmlParserCtxt *parser = context;

    parser->wellFormed = 0;
    xmlStopParser(parser);
}

int xml_parse(const char *text, size_t length, xmlDoc **ret)
{
    _cleanup_(cleanup_xmlFreeParserCtxt) xmlParserCtxtPtr parser = NULL;
    xmlDoc *document;

    if (length == 0 || length > XML_TEXT_MAX)
        return -EINVAL;
    parser = xmlNewParserCtxt();
    if (!parser)
        return -ENOMEM;
    parser->sax->internalSubset = refuse_document_type;
    document = xmlCtxtReadMemory(parser, text, (int)length, NULL, "UTF-8",
                                 XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR |
                                     XML_PARSE_NOWARNING);
    if (!document)
        return parser->errNo == XML_ERR_NO_MEMORY ? -ENOMEM : -EINVAL;
    *ret = document;
    return 0;
}

/* libxml2 allocates with malloc(), unless it is asked to use something else. */
char *xml_print(xmlNode *element)
{
    xmlBuffer *buffer = xmlBufferCreate();
    char *text = NULL;

    if (buffer && xmlNodeDump(buffer, element->doc, element, 0, 1) >= 0 &&
        xmlBufferCat(buffer, BAD_CAST "\n") == 0)
        text = (char *)xmlBufferDetach(buffer);
    xmlBufferFree(buffer);
    return text;
}

bool xml_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns && xmlStrEqual(node->name, BAD_CAST name);
}

static xmlNode *find(xmlNode *node, const char *name)
{
    while (node && !xml_is(node, name))
        node = node->next;
    return node;
}

xmlNode *xml_child(const xmlNode *parent, const char *name)
{
    return parent ? find(parent->children, name) : NULL;
}

xmlNode *xml_next(const xmlNode *element, const char *name)
{
    return find(element->next, name);
}

char *xml_attribute(const xmlNode *element, const char *name)
{
    return element ? (char *)xmlGetNoNsProp(element, BAD_CAST name) : NULL;
}

bool xml_attribute_is(const xmlNode *element, const char *name, const char *value)
{
    _cleanup_free_ char *found = xml_attribute(element, name);

    return found && strcmp(found, value) == 0;
}

xmlNode *xml_add(xmlNode *parent, const char *name)
{
    return xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}

bool xml_set(xmlNode *element, const char *name, const char *value)
{
    return element && xmlSetProp(element, BAD_CAST name, BAD_CAST value);
}
