/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * FUSE requests that were taken from the kernel and are not yet answered.
 *
 * They lie in memory that can outlive the process: the kernel writes each
 * straight into a slot there, and the slot is cleared once the request has
 * been answered. So at whatever moment a process is killed, the next one finds
 * all requests that are not answered, and answers them. A request that had
 * been answered and not yet cleared is answered twice; the kernel refuses the
 * second answer, and a request to this file system changes nothing.
 *
 * The VMs take turns: the requests of a VM that sends many wait for each
 * other, and those of the other VMs do not wait for them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUSE_QUEUE_SLOTS 64

struct fuse_queue;

/**
 * @param memory_fd  the memory of a former process' queue, which becomes this queue's; the
 *                   requests in it come first. Negative: new memory.
 * @return 0; -EBADMSG: that memory is of another form (it remains the caller's); or another
 *         negative errno
 */
int fuse_queue_new(struct fuse_queue **ret, int memory_fd);

/** NULL is accepted. @return NULL */
struct fuse_queue *fuse_queue_free(struct fuse_queue *queue);

/** The memory, for the next process; the descriptor remains the queue's. */
int fuse_queue_memory(const struct fuse_queue *queue);

/** How many requests are in it. */
size_t fuse_queue_length(const struct fuse_queue *queue);

/**
 * Takes the requests that wait in the kernel, as far as there are slots.
 * @param fuse_fd  a connection, non-blocking
 * @return 0, or a negative errno: -ENODEV when it was unmounted
 */
int fuse_queue_fill(struct fuse_queue *queue, int fuse_fd);

/** A request that is to be answered now. */
struct fuse_request {
    unsigned slot;
    uint32_t vm_id; /* 0: of no VM */
    char *bytes;    /* valid until fuse_queue_answered() */
    size_t length;
};

/** Picks the next request: of the VM whose turn it is, the oldest. @return false: none */
bool fuse_queue_next(struct fuse_queue *queue, struct fuse_request *ret);

/** Frees the request's slot. */
void fuse_queue_answered(struct fuse_queue *queue, const struct fuse_request *request);
