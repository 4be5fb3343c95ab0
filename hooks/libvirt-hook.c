/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libvirt-hook SOCKET: reads the XML of a domain that is about to start, and has
 * virtjouled make its share.
 *
 *     domain XML on stdin --UUID--> control socket --> the tree exists
 *
 * A program of its own, since libvirt waits for it: `virtjoule` loads libvirt's
 * libraries, which takes many times as long. Whatever happens, it ends in time
 * and with success: a VM without its counter is better than none.
 */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/share_path.h"

/* Without the share libvirt refuses to start the VM, and on a busy host the daemon answers late. */
#define LIMIT_S 3
/* libvirt's own limit of a domain's XML is larger; real ones have some 10 KB. */
#define XML_MAX (1 << 20)

static char xml[XML_MAX];

static void on_limit(int signal)
{
    _exit(0);
}

/* All of it is read, also what has no room: libvirt must not find a closed pipe. */
static size_t read_xml(void)
{
    char rest[4096];
    size_t length = 0;

    for (;;) {
        bool full = length == sizeof(xml);
        ssize_t n = full ? read(STDIN_FILENO, rest, sizeof(rest))
                         : read(STDIN_FILENO, xml + length, sizeof(xml) - length);

        if (n <= 0)
            return length;
        if (!full)
            length += (size_t)n;
    }
}

/* The answer comes when the tree is there. What it says changes nothing here. */
static void ask(const char *socket_path, const char *uuid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[256];
    int length = snprintf(text, sizeof(text), "{\"command\":\"prepare\",\"vm\":\"%s\"}\n", uuid);

    if (fd < 0 || strlen(socket_path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
        return;
    while (recv(fd, text, sizeof(text), 0) > 0)
        ;
}

int main(int argc, char **argv)
{
    char uuid[UUID_TEXT_LENGTH + 1];

    signal(SIGALRM, on_limit);
    alarm(LIMIT_S);
    if (find_share_uuid(xml, read_xml(), uuid) && argc == 2)
        ask(argv[1], uuid);
    return 0;
}
