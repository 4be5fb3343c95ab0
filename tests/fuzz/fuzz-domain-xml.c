/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A domain's XML, as attach, detach and the hook take it: what has been attached is all there and
   needs nothing more, and can be detached. */

#include "fuzz.h"

#include <string.h>

#include "cli/domain_xml.h"
#include "cli/share_path.h"

static void check_attached(const char *text, const struct domain_share *share)
{
    struct domain_state state;
    char *again = NULL, *device;
    const char *problem;

    require(domain_xml_state(text, strlen(text), &state) == 0);
    require(state.share && state.shared_memory);
    require(domain_xml_attach(text, strlen(text), share, &again, &problem) == DOMAIN_XML_UNCHANGED);
    device = domain_xml_share_device(text, strlen(text));
    require(device != NULL);
    free(device);
    require(domain_xml_detach(text, strlen(text), &again, &problem) == DOMAIN_XML_CHANGED);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct domain_share share = {"/run/virtjoule/vms/0a6f2c1e-7d52-4c56-9b1e-5a3f0e7d0001",
                                       "/usr/lib/qemu/virtiofsd"};
    char *attached = NULL, *detached = NULL, uuid[UUID_TEXT_LENGTH + 1];
    const char *text = (const char *)data, *problem;

    find_share_uuid(text, size, uuid);
    if (domain_xml_attach(text, size, &share, &attached, &problem) == DOMAIN_XML_CHANGED)
        check_attached(attached, &share);
    free(attached);
    if (domain_xml_detach(text, size, &detached, &problem) == DOMAIN_XML_CHANGED)
        require(strlen(detached) > 0);
    free(detached);
    return 0;
}
