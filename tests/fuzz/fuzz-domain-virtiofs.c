/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Domain XML as the doctor reads it: texts end within their room. */

#include "fuzz.h"

#include <string.h>

#include "cli/domain_virtiofs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct domain_virtiofs share;

    if (domain_virtiofs_parse((const char *)data, size, &share) < 0)
        return 0;
    require(share.n_devices <= VIRTIOFS_DEVICES_MAX);
    for (size_t i = 0; i < share.n_devices; i++) {
        const struct virtiofs_device *device = &share.devices[i];

        require(strnlen(device->source, VIRTIOFS_PATH_SIZE) < VIRTIOFS_PATH_SIZE);
        require(strnlen(device->binary, VIRTIOFS_PATH_SIZE) < VIRTIOFS_PATH_SIZE);
        require(strnlen(device->tag, VIRTIOFS_WORD_SIZE) < VIRTIOFS_WORD_SIZE);
        require(strnlen(device->cache, VIRTIOFS_WORD_SIZE) < VIRTIOFS_WORD_SIZE);
    }
    return 0;
}
