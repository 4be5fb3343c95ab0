/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Files of credentials. */

#include "fuzz.h"

#include <string.h>

#include "meter/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct credentials credentials;
    int line;

    if (credentials_parse((const char *)data, size, &credentials, &line) < 0)
        require(line >= 1 && credentials.password[0] == '\0');
    else
        require(memchr(credentials.password, '\0', CREDENTIAL_MAX) != NULL);
    return 0;
}
