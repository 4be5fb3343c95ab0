/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <sys/un.h>

/**
 * Listens on a stream socket in the file system, for this user and root. The
 * socket of a program that has ended is replaced; any other file stays.
 * @param group    whose members may connect as well; -1: none
 * @param backlog  as of listen(2)
 * @return a descriptor that does not block; -EADDRINUSE when another program
 *         listens there; -EEXIST for a file that is no socket; or another
 *         negative errno
 */
int unix_socket_listen(const struct sockaddr_un *address, gid_t group, int backlog);
