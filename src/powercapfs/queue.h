/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * FUSE requests that were taken from the kernel and are not yet answered.
 *
 * They lie in memory that can outlive the process: the kernel writes each
 * straight into its place there, and the place is cleared once the request has
 * been answered. So whatever moment a process is killed at, the next one finds
 * all that nobody has answered, and answers it. What had been answered and not
 * yet cleared is answered twice; the kernel refuses the second answer, and a
 * request to this file system changes nothing.
 *
 * The VMs take turns: a VM with many requests waits for itself, not the others
 * for it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_QUEUE_PLACES 64

struct request_queue;

/**
 * @param memory_fd  a predecessor's memory, which becomes the queue's; what is in it comes
 *                   first. Negative: new memory.
 * @return 0; -EBADMSG: that memory is of another form (the caller's still); or another
 *         negative errno
 */
int request_queue_new(struct request_queue **ret, int memory_fd);
struct request_queue *request_queue_free(struct request_queue *queue);

/** The memory, for a successor. The queue's own. */
int request_queue_memory(const struct request_queue *queue);

/** How many requests are in it. */
size_t request_queue_length(const struct request_queue *queue);

/**
 * Takes what waits in the kernel, as far as there is room.
 * @param fuse_fd  a connection, non-blocking
 * @return 0, or a negative errno: -ENODEV when it was unmounted
 */
int request_queue_fill(struct request_queue *queue, int fuse_fd);

/** One that is to be answered now. */
struct queued_request {
    unsigned place;
    uint32_t vm_id; /* 0: of no VM */
    char *bytes;    /* valid until request_queue_answered() */
    size_t length;
};

/** Picks the next one: of the VM whose turn it is, the oldest. @return false: none */
bool request_queue_next(struct request_queue *queue, struct queued_request *ret);

/** Gives its place free. */
void request_queue_answered(struct request_queue *queue, const struct queued_request *request);
