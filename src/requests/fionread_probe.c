/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/fionread_probe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"

/* For a byte on the loopback, which takes microseconds. */
#define WAIT_MS 1000

/* Connects a TCP socket to another of this process. @return the reading end, or a negative errno */
static int connect_self(int *ret_writer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    _cleanup_close_ int writer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int reader;

    if (listener < 0 || writer < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
        connect(writer, (struct sockaddr *)&address, length) < 0)
        return -errno;
    reader = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (reader < 0)
        return -errno;
    *ret_writer = TAKE_FD(writer);
    return reader;
}

int fionread_is_broken(void)
{
    _cleanup_close_ int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "fionread_probe",
                                             sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
    _cleanup_close_ int writer = -EBADF;
    _cleanup_close_ int reader = map < 0 ? map : connect_self(&writer);
    struct pollfd wait = {.fd = reader, .events = POLLIN};
    int unread;

    if (reader < 0)
        return reader;
    if (bpf_map_update_elem(map, &(uint32_t){0}, &reader, BPF_ANY) < 0 || write(writer, "", 1) != 1)
        return -errno;
    if (poll(&wait, 1, WAIT_MS) != 1)
        return -ETIMEDOUT;
    return ioctl(reader, FIONREAD, &unread) < 0 ? -errno : unread == 0;
}
