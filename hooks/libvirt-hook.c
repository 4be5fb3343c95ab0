/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libvirt-hook OPERATION SOCKET MOUNTPOINT: reads the XML of a domain that libvirt is about to
 * start, has started, or has released, and sees to its share.
 *
 *     domain XML on stdin --UUID--> control socket --> the tree exists
 *                                   no answer in time --> an empty share
 *
 * A program of its own, since libvirt waits for it: `virtjoule` loads libvirt's
 * libraries, which takes many times as long. Whatever happens, it ends in time
 * and with success: a VM without its counter is better than none.
 */

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "cli/share_path.h"
#include "powercapfs/empty_share.h"
#include "util/log.h"
#include "util/macros.h"

/* A daemon that is restarted or upgraded is back by then. */
#define LIMIT_MS 3000
/* The VM before this one has waited already: many of them may start one after the other. */
#define LIMIT_COVERED_MS 200
/* All else together: the log may not be read, and libvirt may not close the XML. */
#define LIMIT_ALL_S 10
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

/* The answer comes when the tree is there. @return whether there was one */
static bool ask(const char *socket_path, const char *uuid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[256];
    int length = snprintf(text, sizeof(text), "{\"command\":\"prepare\",\"vm\":\"%s\"}\n", uuid);
    bool answered = false;

    if (fd < 0 || strlen(socket_path) >= sizeof(address.sun_path))
        return false;
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        send(fd, text, (size_t)length, MSG_NOSIGNAL) != length)
        return false;
    while (recv(fd, text, sizeof(text), 0) > 0)
        answered = true;
    return answered;
}

/* Has the daemon make the tree, and takes the empty shares out of its way.
   @return whether the share is there, full or empty */
static bool prepare(const char *socket_path, const char *mountpoint, const char *uuid)
{
    char path[PATH_MAX];
    struct stat found;

    if (ask(socket_path, uuid))
        empty_shares_fill(mountpoint);
    snprintf(path, sizeof(path), "%s/%s", mountpoint, uuid);
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* In a child process, which is left behind where it hangs in a mount that nobody serves. */
static bool prepare_in_time(const char *socket_path, const char *mountpoint, const char *uuid)
{
    int limit_ms = empty_shares_cover(mountpoint) ? LIMIT_COVERED_MS : LIMIT_MS;
    struct pollfd answer = {.events = POLLIN};
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(!prepare(socket_path, mountpoint, uuid));
    answer.fd = (int)syscall(SYS_pidfd_open, child, 0);
    if (child > 0 && poll(&answer, 1, limit_ms) > 0)
        waitpid(child, &status, 0);
    else if (child > 0)
        kill(child, SIGKILL);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Into the system's log: libvirt shows what a hook prints only where the hook fails. */
static void report(const char *uuid, int result)
{
    openlog("virtjoule", 0, LOG_DAEMON);
    if (result < 0)
        syslog(LOG_ERR, "no virtjouled answers, and the empty share of VM %s cannot be made: %s",
               uuid, log_errno_text(result));
    else
        syslog(LOG_WARNING,
               "no virtjouled answers: VM %s starts with an empty share, which is filled when "
               "virtjouled is there",
               uuid);
}

static void on_prepare(const char *socket_path, const char *mountpoint, const char *uuid)
{
    if (!prepare_in_time(socket_path, mountpoint, uuid))
        report(uuid, empty_share_make(mountpoint, uuid));
}

/* The daemon may only have been slow. */
static void on_started(const char *socket_path, const char *mountpoint, const char *uuid)
{
    if (empty_share_exists(uuid))
        prepare_in_time(socket_path, mountpoint, uuid);
}

static void on_release(const char *socket_path, const char *mountpoint, const char *uuid)
{
    empty_share_remove(uuid);
}

static const struct {
    const char *name;
    void (*run)(const char *socket_path, const char *mountpoint, const char *uuid);
} operations[] = {
    {"prepare", on_prepare},
    {"started", on_started},
    {"release", on_release},
};

int main(int argc, char **argv)
{
    char uuid[UUID_TEXT_LENGTH + 1];
    size_t length;

    signal(SIGALRM, on_limit);
    alarm(LIMIT_ALL_S);
    length = read_xml();
    if (argc != 4 || !find_share_uuid(xml, length, argv[3], uuid))
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
        if (strcmp(argv[1], operations[i].name) == 0)
            operations[i].run(argv[2], argv[3], uuid);
    return 0;
}
