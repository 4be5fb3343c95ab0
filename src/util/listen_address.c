/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/listen_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "util/parse.h"

/* Not getaddrinfo(AI_NUMERICHOST): it takes "127.1", "0x7f000001" and zones as well. */
static int parse_host(const char *host, bool is_v6, uint16_t port, struct listen_address *ret)
{
    struct listen_address address = {0};

    if (is_v6) {
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons(port);
        address.length = sizeof(address.v6);
    } else {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(port);
        address.length = sizeof(address.v4);
    }
    if (inet_pton(address.any.sa_family, host,
                  is_v6 ? (void *)&address.v6.sin6_addr : (void *)&address.v4.sin_addr) != 1)
        return -EINVAL;
    *ret = address;
    return 0;
}

static int parse_path(const char *path, struct listen_address *ret)
{
    struct listen_address address = {.local.sun_family = AF_UNIX};
    size_t size = strlen(path) + 1;

    if (size > sizeof(address.local.sun_path) || size < sizeof("/x"))
        return -EINVAL;
    memcpy(address.local.sun_path, path, size);
    address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    *ret = address;
    return 0;
}

int listen_address_parse(const char *text, struct listen_address *ret)
{
    const char *colon = strrchr(text, ':');
    bool bracketed = *text == '[';
    char host[INET6_ADDRSTRLEN];
    size_t length;
    uint64_t port;

    if (*text == '/')
        return parse_path(text, ret);
    if (!colon || parse_u64_between(colon + 1, 0, UINT16_MAX, &port) < 0)
        return -EINVAL;
    length = (size_t)(colon - text);
    if (bracketed) {
        if (length < 2 || text[length - 1] != ']')
            return -EINVAL;
        text++;
        length -= 2;
    }
    if (length >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    return parse_host(host, bracketed, (uint16_t)port, ret);
}

unsigned listen_address_port(const struct listen_address *address)
{
    if (address->any.sa_family == AF_UNIX)
        return 0;
    return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}
