/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/**
 * Whose client is at the other end of a TCP connection, as the kernel knows it: no client can say
 * that it is another's.
 * @param fd  the server's end
 * @return 0; 1: the client is not on this host, or in another network namespace, or it is no TCP
 *         connection; -ENOENT: it has closed its socket; or another negative errno
 */
int tcp_peer_user(int fd, uid_t *ret);
