/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/** An address of IPv4 or IPv6 with a port, or a Unix socket's path, as socket calls take it. */
struct listen_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    };
    socklen_t length;
};

/**
 * Parses "127.0.0.1:19177", "[::1]:19177", or the absolute path of a Unix
 * socket, of at most 107 bytes. The host is a numeric one in its full form:
 * "127.1" is refused, as is a zone ("%eth0").
 * @return 0 or -EINVAL
 */
int listen_address_parse(const char *text, struct listen_address *ret);

/**
 * The port; the kernel's choice after getsockname(2) where 0 was asked for; 0 for
 * a Unix socket.
 */
unsigned listen_address_port(const struct listen_address *address);
