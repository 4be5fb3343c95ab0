/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The workload server: known pieces of work over HTTP, served in one of three ways. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "server.h"
#include "util/cleanup.h"
#include "util/parse.h"
#include "work.h"

static const char usage_text[] =
    "Usage: workload-server [--mode threads|events|pool] [--workers N] [--port N]\n"
    "\n"
    "Serves /cpu?iters= /json?items= /compress?kb= /file?kb= /post?kb= and prints its port.\n";

/* On all addresses, IPv4 and IPv6. */
static int open_listener(uint16_t port)
{
    _cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    socklen_t length = sizeof(address);
    int one = 1, zero = 0;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    printf("%u\n", ntohs(address.sin6_port));
    fflush(stdout);
    return TAKE_FD(fd);
}

static int serve(const char *mode, int listen_fd, int file, unsigned workers)
{
    if (strcmp(mode, "threads") == 0)
        return serve_threads(listen_fd, file);
    /* Another thread may have taken the connection that epoll told of. */
    if (fcntl(listen_fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    if (strcmp(mode, "events") == 0)
        return serve_events(listen_fd, file);
    if (strcmp(mode, "pool") == 0)
        return serve_pool(listen_fd, file, workers);
    return -EINVAL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"mode", required_argument, NULL, 'm'},
                                            {"workers", required_argument, NULL, 'w'},
                                            {"port", required_argument, NULL, 'p'},
                                            {0}};
    const char *mode = "threads";
    uint64_t workers = 4, port = 0;
    int listen_fd, file, r = 0;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'm')
            mode = optarg;
        else if (option == 'w')
            r = parse_u64_between(optarg, 1, 1024, &workers);
        else if (option == 'p')
            r = parse_u64_between(optarg, 0, UINT16_MAX, &port);
        else
            r = -EINVAL;
        if (r < 0) {
            fputs(usage_text, stderr);
            return EX_USAGE;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    file = work_file_open();
    listen_fd = open_listener((uint16_t)port);
    r = file < 0        ? file
        : listen_fd < 0 ? listen_fd
                        : serve(mode, listen_fd, file, (unsigned)workers);
    fprintf(stderr, "workload-server: %s\n", strerror(-r));
    return EXIT_FAILURE;
}
