/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/bpf_handover.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"

#define STORE_NAME "usage"
#define FDS_MAX 32

/* A message and room for its descriptors. */
struct message {
    struct msghdr header;
    struct iovec data;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

static void prepare(struct message *message, struct bpf_set *set)
{
    message->data = (struct iovec){set, sizeof(*set)};
    message->header = (struct msghdr){
        .msg_iov = &message->data,
        .msg_iovlen = 1,
        .msg_control = message->control,
        .msg_controllen = sizeof(message->control),
    };
}

static int send_set(int fd, struct bpf_set set, const int *fds, size_t n)
{
    struct message message = {0};
    struct cmsghdr *rights;

    if (n > FDS_MAX)
        return -E2BIG;
    prepare(&message, &set);
    message.header.msg_controllen = CMSG_SPACE(n * sizeof(int));
    rights = CMSG_FIRSTHDR(&message.header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, n * sizeof(int));
    return sendmsg(fd, &message.header, MSG_DONTWAIT) < 0 ? -errno : 0;
}

int bpf_handover_keep(const struct bpf_set *set, const int *fds, size_t n)
{
    _cleanup_close_ int sender = -1, kept = -1;
    int sockets[2], r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return -errno;
    sender = sockets[0];
    kept = sockets[1];
    r = send_set(sender, *set, fds, n);
    if (r < 0)
        return r;
    bpf_handover_forget();
    return descriptors_keep(STORE_NAME, &kept, 1);
}

/* The descriptors that came with a message. @return how many */
static size_t take_rights(struct message *message, int *fds)
{
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message->header);
    size_t size;

    if (!rights || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS)
        return 0;
    size = rights->cmsg_len - CMSG_LEN(0);
    memcpy(fds, CMSG_DATA(rights), size);
    return size / sizeof(int);
}

static int receive_set(int fd, struct bpf_set *ret, int *fds, size_t n)
{
    struct message message = {0};
    struct bpf_set set;
    int received[FDS_MAX];
    ssize_t length;
    size_t n_received;

    prepare(&message, &set);
    length = recvmsg(fd, &message.header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return -EBADMSG;
    n_received = take_rights(&message, received);
    if (length == sizeof(set) && n_received == n &&
        !(message.header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        memcpy(fds, received, n * sizeof(int));
        *ret = set;
        return 0;
    }
    for (size_t i = 0; i < n_received; i++)
        close(received[i]);
    return -EBADMSG;
}

int bpf_handover_take(struct descriptors *descriptors, struct bpf_set *ret, int *fds, size_t n)
{
    int r = -ENOENT;

    for (int fd; (fd = descriptors_next(descriptors, STORE_NAME)) >= 0; close(fd))
        /* The first set counts; there should be no other. */
        r = r == -ENOENT ? receive_set(fd, ret, fds, n) : r;
    return r;
}

void bpf_handover_forget(void)
{
    descriptors_forget(STORE_NAME);
}
