/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The check of the exporter: whether the metrics are served, and who else has their address. */

#include "doctor/doctor_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/proc_text.h"
#include "util/file.h"
#include "util/listen_address.h"
#include "util/log.h"

#define SOCKETS_MAX_BYTES ((size_t)16 << 20)

/* The program that listens at the address. */
struct listener {
    uint64_t inode; /* of its socket; 0: none found */
    pid_t pid;      /* 0: not known */
    char name[64];
};

/* Asks whether a virtjouled answers there. @return 0, -EPROTO for another server, or a negative
 * errno */
static int ask_exporter(void *data)
{
    static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
    const struct listen_address *address = data;
    _cleanup_close_ int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[4096];
    ssize_t n;

    if (fd < 0 || connect(fd, &address->any, address->length) < 0 ||
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
        return -errno;
    /* Any metric of virtjoule is enough, the first is among the first lines. */
    for (size_t length = 0; length < sizeof(text) - 1; length += (size_t)n) {
        n = recv(fd, text + length, sizeof(text) - 1 - length, 0);
        if (n < 0)
            return -errno;
        text[length + (size_t)n] = '\0';
        if (strstr(text, "virtjoule_"))
            return 0;
        if (n == 0)
            break;
    }
    return -EPROTO;
}

static int ask_patiently(const struct listen_address *address)
{
    struct listen_address *copy = malloc(sizeof(*copy));
    int r;

    if (!copy)
        return -ENOMEM;
    *copy = *address;
    r = doctor_call(ask_exporter, copy);
    if (r != -ETIMEDOUT)
        free(copy);
    return r;
}

static void find_socket(const struct doctor *doctor, unsigned port, struct listener *listener)
{
    static const char *const files[] = {"net/tcp", "net/tcp6"};

    for (size_t i = 0; i < ARRAY_SIZE(files) && listener->inode == 0; i++) {
        _cleanup_free_ char *path = doctor_text("%s/%s", doctor->config.proc_root, files[i]);
        _cleanup_free_ char *text = NULL;
        size_t length;

        if (path && read_file_full(AT_FDCWD, path, SOCKETS_MAX_BYTES, &text, &length) == 0)
            parse_proc_listener(text, length, port, &listener->inode);
    }
}

static bool has_socket(DIR *descriptors, uint64_t inode)
{
    const struct dirent *entry;
    char wanted[32], target[32];

    snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
    while ((entry = readdir(descriptors))) {
        ssize_t n = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof(target) - 1);

        target[n > 0 ? n : 0] = '\0';
        if (strcmp(target, wanted) == 0)
            return true;
    }
    return false;
}

static void look_at_process(struct doctor *doctor, pid_t pid, const char *comm, void *userdata)
{
    struct listener *listener = userdata;
    _cleanup_free_ char *path = doctor_text("%s/%d/fd", doctor->config.proc_root, pid);
    _cleanup_closedir_ DIR *descriptors = path && listener->pid == 0 ? opendir(path) : NULL;

    if (!descriptors || !has_socket(descriptors, listener->inode))
        return;
    listener->pid = pid;
    snprintf(listener->name, sizeof(listener->name), "%s", comm);
}

static void find_listener(struct doctor *doctor, const struct listen_address *address,
                          struct listener *ret)
{
    unsigned port = listen_address_port(address);

    *ret = (struct listener){0};
    if (port > 0)
        find_socket(doctor, port, ret);
    if (ret->inode > 0)
        doctor_each_process(doctor, look_at_process, ret);
}

static char *describe(const struct listener *listener)
{
    return listener->pid == 0
               ? doctor_text("another program")
               : doctor_text("another program, %s with PID %d,", listener->name, listener->pid);
}

void doctor_check_exporter(struct doctor *doctor)
{
    const char *listen = doctor->config.listen;
    struct listen_address address;
    struct listener listener;
    int r;

    /* A wrong address is the configuration's check to report. */
    if (!doctor->first || listen[0] == '\0' || listen_address_parse(listen, &address) < 0)
        return;
    r = ask_patiently(&address);
    if (r == 0)
        return;
    find_listener(doctor, &address, &listener);
    if (r == -EPROTO || (listener.pid != 0 && strcmp(listener.name, "virtjouled") != 0)) {
        _cleanup_free_ char *other = describe(&listener);

        doctor_report(doctor, SEVERITY_WARNING, "exporter-foreign",
                      doctor_text("%s listens at %s, where the metrics should be", other, listen),
                      doctor_text("stop it, and the metrics are there within a minute; or set "
                                  "another [exporter] listen in %s, then " RESTART,
                                  doctor->config_file));
    } else {
        doctor_report(doctor, SEVERITY_WARNING, "exporter-unreachable",
                      doctor_text("no metrics at %s: %s", listen, log_errno_text(r)),
                      doctor_text(RESTART " (the configuration may be newer than the process)"));
    }
}
