/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The answers of powercapfs without a kernel: a request goes in as bytes, its
 * reply comes out as bytes.
 *
 *     fuse_fixture_send() -> libfuse -> ops.c -> reply
 *
 * Each request is answered before fuse_fixture_send() returns, with exactly one
 * whole reply or, where FUSE wants none, with none: that is checked here, and
 * abort()s.
 */

#include "powercapfs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "require.h"

#define REQUEST_BODY_MAX 512
#define REPLY_MAX (LISTING_MAX + 4096)

struct fuse_fixture {
    struct powercapfs_server server; /* first: the session's user data */
    struct fuse_session *session;
    uint64_t unique;
    unsigned n_interrupts; /* that libfuse keeps for requests to come, at most */
    unsigned n_replies;    /* to the request under way */
    int error;             /* the reply's: 0 or a negative errno */
    size_t length;         /* of its body */
    _Alignas(uint64_t) char body[REPLY_MAX];
    /* Longer than any body: names and counts at its end meet zeros. */
    _Alignas(uint64_t) char request[2 * REQUEST_BODY_MAX];
};

static inline ssize_t fixture_writev(int fd, struct iovec *parts, int n, void *userdata)
{
    struct fuse_fixture *fixture = userdata;
    struct fuse_out_header header;
    char *end = fixture->body;
    size_t length = 0;

    for (int i = 0; i < n; i++)
        length += parts[i].iov_len;
    require(n >= 1 && parts[0].iov_len == sizeof(header));
    memcpy(&header, parts[0].iov_base, sizeof(header));
    require(header.len == length && length <= sizeof(header) + REPLY_MAX);
    require(header.error <= 0 && header.error > -1000);
    require(header.error == 0 || length == sizeof(header));
    if (header.unique != fixture->unique) {
        /* An interrupt of a request that is unknown or answered: the kernel is to repeat it. */
        require(fixture->n_interrupts > 0 && header.error == -EAGAIN);
        fixture->n_interrupts--;
        return (ssize_t)length;
    }
    for (int i = 1; i < n; i++) {
        memcpy(end, parts[i].iov_base, parts[i].iov_len);
        end += parts[i].iov_len;
    }
    fixture->n_replies++;
    fixture->error = header.error;
    fixture->length = length - sizeof(header);
    return (ssize_t)length;
}

static inline ssize_t fixture_read(int fd, void *buffer, size_t size, void *userdata)
{
    return -1;
}

static inline bool request_has_reply(uint32_t opcode)
{
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
           opcode != FUSE_NOTIFY_REPLY;
}

/**
 * Sends a request.
 * @param body  at most REQUEST_BODY_MAX bytes
 * @return the reply's error, 0 or a negative errno; 0 where there is no reply
 */
static inline int fuse_fixture_send(struct fuse_fixture *fixture, uint32_t opcode, uint64_t inode,
                                    const void *body, size_t length)
{
    struct fuse_in_header header = {
        .len = (uint32_t)(sizeof(header) + length), .opcode = opcode, .nodeid = inode};
    const struct fuse_buf buffer = {.mem = fixture->request, .size = header.len};

    /* As the kernel numbers them: interrupts are odd. */
    header.unique = fixture->unique += 2;
    memcpy(fixture->request, &header, sizeof(header));
    memcpy(fixture->request + sizeof(header), body, length);
    memset(fixture->request + header.len, 0, sizeof(fixture->request) - header.len);
    if (opcode == FUSE_INTERRUPT) {
        fixture->request[sizeof(header)] |= 1;
        fixture->n_interrupts++;
    }
    fixture->n_replies = 0;
    fixture->error = 0;
    fuse_session_process_buf(fixture->session, &buffer);
    require(fixture->n_replies == request_has_reply(opcode));
    return fixture->error;
}

/** Sends the FUSE_INIT of Linux 6.1. @return 0 or a negative errno */
static inline int fuse_fixture_init(struct fuse_fixture *fixture)
{
    const struct fuse_init_in init = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = 131072,
        .flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_MAX_PAGES,
    };

    return fuse_fixture_send(fixture, FUSE_INIT, 0, &init, sizeof(init));
}

/** A session to which nothing has been sent; the fixture's requests go to fixture->session. */
static inline struct fuse_session *fuse_fixture_session(struct fuse_fixture *fixture)
{
    struct fuse_session *session;
    static const struct fuse_custom_io io = {.writev = fixture_writev, .read = fixture_read};
    char options[] = "ro,allow_other";
    char *arguments[] = {"test", "-o", options};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);

    session = fuse_session_new(&args, &powercapfs_operations, sizeof(powercapfs_operations),
                               &fixture->server);
    fuse_opt_free_args(&args);
    require(session != NULL);
    require(fuse_session_custom_io(session, &io, open("/dev/null", O_RDWR | O_CLOEXEC)) == 0);
    return session;
}

/** Makes libfuse give up the interrupts that it keeps: it does so one by one. */
static inline void fuse_fixture_drain(struct fuse_fixture *fixture)
{
    unsigned before;

    do {
        before = fixture->n_interrupts;
        fuse_fixture_send(fixture, FUSE_GETATTR, FUSE_ROOT_ID, "", 0);
    } while (fixture->n_interrupts < before);
    fixture->n_interrupts = 0;
}

/** A server, and a session that has begun. */
static inline struct fuse_fixture *fuse_fixture_new(const struct powercapfs_config *config,
                                                    struct snapshot_board *board)
{
    struct fuse_fixture *fixture = calloc(1, sizeof(*fixture));

    require(fixture && powercapfs_server_init(&fixture->server, config, board) == 0);
    fixture->session = fuse_fixture_session(fixture);
    require(fuse_fixture_init(fixture) == 0);
    return fixture;
}

static inline void fuse_fixture_free(struct fuse_fixture *fixture)
{
    fuse_session_destroy(fixture->session);
    powercapfs_server_deinit(&fixture->server);
    free(fixture);
}
