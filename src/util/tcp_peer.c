/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/tcp_peer.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "util/cleanup.h"

/* A kernel that does not answer at once has no answer. */
#define ANSWER_MAX_S 1

struct question {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
};

struct answer {
    struct nlmsghdr head;
    union {
        struct nlmsgerr error;
        struct inet_diag_msg found;
        char room[1024]; /* attributes that were not asked for */
    };
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static void fill_end(const union address *address, __be16 *ret_port, __be32 ret_address[4])
{
    if (address->any.sa_family == AF_INET6) {
        *ret_port = address->v6.sin6_port;
        memcpy(ret_address, &address->v6.sin6_addr, sizeof(address->v6.sin6_addr));
    } else {
        *ret_port = address->v4.sin_port;
        memcpy(ret_address, &address->v4.sin_addr, sizeof(address->v4.sin_addr));
    }
}

/* The client's socket: its own address is the peer's one here. */
static struct question ask_for(const union address *client, const union address *server)
{
    struct question question = {
        .head = {.nlmsg_len = sizeof(question),
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = (__u8)client->any.sa_family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .id.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}},
    };

    fill_end(client, &question.body.id.idiag_sport, question.body.id.idiag_src);
    fill_end(server, &question.body.id.idiag_dport, question.body.id.idiag_dst);
    return question;
}

static int exchange(const struct question *question, struct answer *ret)
{
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    struct timeval patience = {.tv_sec = ANSWER_MAX_S};
    ssize_t n;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        send(fd, question, sizeof(*question), 0) < 0)
        return -errno;
    n = recv(fd, ret, sizeof(*ret), 0);
    if (n < 0)
        return -errno;
    return (size_t)n < sizeof(ret->head) + sizeof(ret->error) ? -EBADMSG : 0;
}

/* A socket without a process has no user, and is shown as root's: no response can reach it. */
static int read_answer(const struct answer *answer, uid_t *ret)
{
    if (answer->head.nlmsg_type == NLMSG_ERROR)
        return answer->error.error < 0 ? answer->error.error : -EBADMSG;
    if (answer->head.nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        answer->head.nlmsg_len < NLMSG_LENGTH(sizeof(answer->found)))
        return -EBADMSG;
    if (answer->found.idiag_inode == 0)
        return -ENOENT;
    *ret = answer->found.idiag_uid;
    return 0;
}

static bool is_loopback(const union address *address)
{
    static const struct in6_addr mapped = {{{[10] = 0xff, [11] = 0xff, [12] = IN_LOOPBACKNET}}};
    const struct in6_addr *v6 = &address->v6.sin6_addr;

    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(v6) || memcmp(v6, &mapped, 13) == 0;
}

int tcp_peer_user(int fd, uid_t *ret)
{
    union address client = {0}, server = {0};
    socklen_t length = sizeof(client);
    struct answer answer = {0};
    struct question question;
    int r;

    if (getpeername(fd, &client.any, &length) < 0)
        return -errno;
    length = sizeof(server);
    if (getsockname(fd, &server.any, &length) < 0)
        return -errno;
    if (client.any.sa_family != AF_INET && client.any.sa_family != AF_INET6)
        return 1;
    question = ask_for(&client, &server);
    r = exchange(&question, &answer);
    if (r == 0)
        r = read_answer(&answer, ret);
    return r == -ENOENT && !is_loopback(&client) ? 1 : r;
}
