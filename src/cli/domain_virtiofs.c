/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/domain_virtiofs.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

DEFINE_CLEANUP(xmlDocPtr, xmlFreeDoc);
DEFINE_CLEANUP(xmlXPathContextPtr, xmlXPathFreeContext);
DEFINE_CLEANUP(xmlXPathObjectPtr, xmlXPathFreeObject);

/* Every NUMA cell has a say of its own; where it has none, the domain's holds. */
#define SHARED_MEMORY                                                                              \
    "(/domain/memoryBacking/access/@mode = 'shared'"                                               \
    " and not(/domain/cpu/numa/cell/@memAccess = 'private'))"                                      \
    " or (/domain/cpu/numa/cell and not(/domain/cpu/numa/cell[not(@memAccess = 'shared')]))"
#define VIRTIOFS_DEVICES "/domain/devices/filesystem[driver/@type = 'virtiofs']"

/* The text of the first node that a path below the context's node leads to, or "". */
static void read_text(xmlXPathContextPtr context, const char *path, char *ret, size_t size)
{
    _cleanup_(cleanup_xmlXPathFreeObject) xmlXPathObjectPtr found =
        xmlXPathEvalExpression(BAD_CAST path, context);
    xmlChar *text = found ? xmlXPathCastToString(found) : NULL;

    snprintf(ret, size, "%s", text ? (const char *)text : "");
    xmlFree(text);
}

static void read_devices(xmlXPathContextPtr context, struct domain_virtiofs *ret)
{
    _cleanup_(cleanup_xmlXPathFreeObject) xmlXPathObjectPtr found =
        xmlXPathEvalExpression(BAD_CAST VIRTIOFS_DEVICES, context);
    int n = found ? xmlXPathNodeSetGetLength(found->nodesetval) : 0;

    for (int i = 0; i < n && ret->n_devices < VIRTIOFS_DEVICES_MAX; i++) {
        struct virtiofs_device *device = &ret->devices[ret->n_devices++];

        context->node = xmlXPathNodeSetItem(found->nodesetval, i);
        read_text(context, "string(source/@dir)", device->source, sizeof(device->source));
        read_text(context, "string(target/@dir)", device->tag, sizeof(device->tag));
        read_text(context, "string(binary/cache/@mode)", device->cache, sizeof(device->cache));
        read_text(context, "string(binary/@path)", device->binary, sizeof(device->binary));
    }
}

int domain_virtiofs_parse(const char *xml, size_t length, struct domain_virtiofs *ret)
{
    _cleanup_(cleanup_xmlFreeDoc) xmlDocPtr document = NULL;
    _cleanup_(cleanup_xmlXPathFreeContext) xmlXPathContextPtr context = NULL;
    _cleanup_(cleanup_xmlXPathFreeObject) xmlXPathObjectPtr shared = NULL;
    struct domain_virtiofs share = {0};
    const xmlNode *root;

    if (length > INT_MAX)
        return -EBADMSG;
    /* No entity is expanded, no file and no host is asked. */
    document = xmlReadMemory(xml, (int)length, NULL, NULL,
                             XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    root = document ? xmlDocGetRootElement(document) : NULL;
    if (!root || !xmlStrEqual(root->name, BAD_CAST "domain"))
        return -EBADMSG;
    context = xmlXPathNewContext(document);
    shared = context ? xmlXPathEvalExpression(BAD_CAST SHARED_MEMORY, context) : NULL;
    if (!shared)
        return -ENOMEM;
    share.shared_memory = xmlXPathCastToBoolean(shared);
    read_devices(context, &share);
    *ret = share;
    return 0;
}
