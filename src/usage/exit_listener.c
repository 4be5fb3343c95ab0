/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/exit_listener.h"

#include <errno.h>
#include <linux/taskstats.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* A message takes about 1 kB of it: so many ends may come between two reads. */
#define RECEIVE_BUFFER (4 << 20)

struct exit_listener {
    struct nl_sock *socket;
    exit_handler on_exit;
    void *userdata;
};

static int on_message(struct nl_msg *message, void *userdata)
{
    const struct exit_listener *listener = userdata;

    if (listener->on_exit)
        exit_message_parse(nlmsg_hdr(message), listener->on_exit, listener->userdata);
    return NL_OK;
}

static int register_cpus(struct nl_sock *socket, int family, size_t n_cpus)
{
    struct nl_msg *message = nlmsg_alloc();
    char cpus[32];
    int r;

    if (!message)
        return -ENOMEM;
    snprintf(cpus, sizeof(cpus), "0-%zu", n_cpus - 1);
    genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, NLM_F_ACK, TASKSTATS_CMD_GET,
                TASKSTATS_GENL_VERSION);
    nla_put_string(message, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus);
    /* Waits for the acknowledgement, and frees the message. */
    r = nl_send_sync(socket, message);
    return r < 0 ? -EPERM : 0;
}

struct exit_listener *exit_listener_free(struct exit_listener *listener)
{
    if (listener) {
        nl_socket_free(listener->socket);
        free(listener);
    }
    return NULL;
}
DEFINE_CLEANUP(struct exit_listener *, exit_listener_free);

int exit_listener_new(struct exit_listener **ret, size_t n_cpus)
{
    _cleanup_(cleanup_exit_listener_free) struct exit_listener *listener =
        calloc(1, sizeof(*listener));
    int family, r;

    if (!listener)
        return -ENOMEM;
    listener->socket = nl_socket_alloc();
    if (!listener->socket)
        return -ENOMEM;
    if (genl_connect(listener->socket) < 0)
        return -EPROTONOSUPPORT;
    nl_socket_set_buffer_size(listener->socket, RECEIVE_BUFFER, 0);
    family = genl_ctrl_resolve(listener->socket, TASKSTATS_GENL_NAME);
    if (family < 0)
        return -ENOSYS;
    nl_socket_modify_cb(listener->socket, NL_CB_VALID, NL_CB_CUSTOM, on_message, listener);
    r = register_cpus(listener->socket, family, n_cpus);
    if (r < 0)
        return r;
    /* The messages from now on answer no request. */
    nl_socket_disable_seq_check(listener->socket);
    nl_socket_set_nonblocking(listener->socket);
    *ret = TAKE_PTR(listener);
    return 0;
}

int exit_listener_fd(const struct exit_listener *listener)
{
    return nl_socket_get_fd(listener->socket);
}

void exit_listener_dispatch(struct exit_listener *listener, exit_handler on_exit, void *userdata)
{
    int r;

    listener->on_exit = on_exit;
    listener->userdata = userdata;
    /* After an overrun (-NLE_NOMEM) some ends are lost: pidfds still report those processes. */
    do
        r = nl_recvmsgs_default(listener->socket);
    while (r >= 0 || r == -NLE_NOMEM);
    listener->on_exit = NULL;
}
