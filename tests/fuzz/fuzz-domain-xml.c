/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A domain's XML, as attach, detach, the doctor and the hook take it: what has been attached is all
   there and needs nothing more, and can be detached; texts end within their room. */

#include "fuzz.h"

#include <string.h>

#include "cli/share_path.h"
#include "libvirt/domain_xml.h"

static void check_attached(const char *text, const struct domain_share *share)
{
    struct domain_virtiofs state;
    char *again = NULL, *device;
    const char *problem;

    require(domain_xml_read(text, strlen(text), &state) == 0);
    require(state.has_share && state.shared_memory);
    require(domain_xml_attach(text, strlen(text), share, &again, &problem) == DOMAIN_XML_UNCHANGED);
    device = domain_xml_share_device(text, strlen(text));
    require(device != NULL);
    free(device);
    require(domain_xml_detach(text, strlen(text), &again, &problem) == DOMAIN_XML_CHANGED);
    free(again);
}

static void check_looking(const char *text, size_t size)
{
    struct domain_virtiofs state;
    char *canonical = domain_xml_canonical(text, size), *again;

    require((domain_xml_read(text, size, &state) == 0) == (canonical != NULL));
    if (!canonical)
        return;
    require(state.n_devices <= VIRTIOFS_DEVICES_MAX);
    for (size_t i = 0; i < state.n_devices; i++) {
        const struct virtiofs_device *device = &state.devices[i];

        require(strnlen(device->source, VIRTIOFS_PATH_SIZE) < VIRTIOFS_PATH_SIZE);
        require(strnlen(device->binary, VIRTIOFS_PATH_SIZE) < VIRTIOFS_PATH_SIZE);
        require(strnlen(device->tag, VIRTIOFS_WORD_SIZE) < VIRTIOFS_WORD_SIZE);
        require(strnlen(device->cache, VIRTIOFS_WORD_SIZE) < VIRTIOFS_WORD_SIZE);
    }
    again = domain_xml_canonical(canonical, strlen(canonical));
    require(again != NULL);
    free(again);
    free(canonical);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct domain_share share = {"/run/virtjoule/vms/0a6f2c1e-7d52-4c56-9b1e-5a3f0e7d0001",
                                       "/usr/lib/qemu/virtiofsd"};
    char *attached = NULL, *detached = NULL, uuid[UUID_TEXT_LENGTH + 1];
    const char *text = (const char *)data, *problem;

    find_share_uuid(text, size, "/run/virtjoule/vms", uuid);
    check_looking(text, size);
    if (domain_xml_attach(text, size, &share, &attached, &problem) == DOMAIN_XML_CHANGED)
        check_attached(attached, &share);
    free(attached);
    if (domain_xml_detach(text, size, &detached, &problem) == DOMAIN_XML_CHANGED)
        require(strlen(detached) > 0);
    free(detached);
    return 0;
}
