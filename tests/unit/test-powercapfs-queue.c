/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests in their order, and over the death of the process that took them. A packet socket plays
 * the kernel.
 */

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "powercapfs/queue.h"
#include "powercapfs/tree.h"
#include "util/cleanup.h"

DEFINE_CLEANUP(struct fuse_queue *, fuse_queue_free);

struct connection {
    int kernel;
    int daemon;
};

static struct connection connect_pair(void)
{
    int sockets[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets),
                     0);
    return (struct connection){sockets[0], sockets[1]};
}

static void disconnect(const struct connection *connection)
{
    close(connection->kernel);
    close(connection->daemon);
}

static void ask(const struct connection *connection, uint32_t vm_id, uint64_t unique)
{
    const struct fuse_in_header header = {
        .len = sizeof(header),
        .opcode = FUSE_GETATTR,
        .unique = unique,
        .nodeid = tree_inode(vm_id, 7),
    };

    assert_int_equal(send(connection->kernel, &header, sizeof(header), 0), sizeof(header));
}

static void fill(struct fuse_queue *queue, const struct connection *connection)
{
    assert_int_equal(fuse_queue_fill(queue, connection->daemon), 0);
}

/* @return the VM's id */
static uint32_t answer(struct fuse_queue *queue, uint64_t *ret_unique)
{
    struct fuse_request request;
    struct fuse_in_header header;

    assert_true(fuse_queue_next(queue, &request));
    assert_int_equal(request.length, sizeof(header));
    memcpy(&header, request.bytes, sizeof(header));
    assert_int_equal(tree_inode_vm(header.nodeid), request.vm_id);
    if (ret_unique)
        *ret_unique = header.unique;
    fuse_queue_answered(queue, &request);
    return request.vm_id;
}

static void test_order_of_one(void **state)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;
    struct connection connection = connect_pair();
    uint64_t unique;

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    fill(queue, &connection);
    assert_int_equal(fuse_queue_length(queue), 0);
    assert_false(fuse_queue_next(queue, &(struct fuse_request){0}));
    for (uint64_t i = 1; i <= 10; i++)
        ask(&connection, 3, i);
    fill(queue, &connection);
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(fuse_queue_length(queue), 11 - i);
        assert_int_equal(answer(queue, &unique), 3);
        assert_int_equal(unique, i);
    }
    disconnect(&connection);
}

/* However many requests one VM sends, and whenever it began: the others' next ones do not wait. */
static void test_turns(void **state)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;
    struct connection connection = connect_pair();

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    for (uint64_t i = 0; i < 40; i++)
        ask(&connection, 1, i);
    fill(queue, &connection);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(answer(queue, NULL), 1);
    ask(&connection, 2, 100);
    ask(&connection, 2, 101);
    ask(&connection, 0, 102);
    fill(queue, &connection);
    /* 1 has the older one of this round. */
    assert_int_equal(answer(queue, NULL), 2);
    assert_int_equal(answer(queue, NULL), 0);
    assert_int_equal(answer(queue, NULL), 1);
    assert_int_equal(answer(queue, NULL), 2);
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(answer(queue, NULL), 1);
    assert_int_equal(fuse_queue_length(queue), 0);
    disconnect(&connection);
}

static void test_full(void **state)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;
    struct connection connection = connect_pair();
    uint64_t unique;

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    for (uint64_t i = 0; i < FUSE_QUEUE_SLOTS + 5; i++)
        ask(&connection, 1, i);
    fill(queue, &connection);
    assert_int_equal(fuse_queue_length(queue), FUSE_QUEUE_SLOTS);
    for (uint64_t i = 0; i < FUSE_QUEUE_SLOTS + 5; i++) {
        answer(queue, &unique);
        assert_int_equal(unique, i);
        fill(queue, &connection);
    }
    assert_int_equal(fuse_queue_length(queue), 0);
    disconnect(&connection);
}

/* The next process gets the requests that were taken and not answered; their slots are used again.
 */
static void test_successor(void **state)
{
    struct fuse_queue *dead;
    struct connection connection = connect_pair();
    uint32_t seen = 0;
    int memory;

    assert_int_equal(fuse_queue_new(&dead, -1), 0);
    memory = fcntl(fuse_queue_memory(dead), F_DUPFD_CLOEXEC, 0);
    for (uint64_t i = 0; i < 5; i++)
        ask(&connection, 10, i);
    fill(dead, &connection);
    assert_int_equal(answer(dead, NULL), 10);
    assert_int_equal(answer(dead, NULL), 10);
    fuse_queue_free(dead);

    for (unsigned generation = 0; generation < 2; generation++) {
        _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;

        assert_int_equal(fuse_queue_new(&queue, fcntl(memory, F_DUPFD_CLOEXEC, 0)), 0);
        assert_int_equal(fuse_queue_length(queue), generation == 0 ? 3 : 0);
        while (fuse_queue_length(queue) > 0) {
            uint64_t unique;

            assert_int_equal(answer(queue, &unique), 10);
            seen |= 1u << unique;
        }
    }
    assert_int_equal(seen, 1 << 2 | 1 << 3 | 1 << 4);
    close(memory);
    disconnect(&connection);
}

static void test_foreign_memory(void **state)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;
    struct fuse_queue *other = NULL;
    int memory;

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    memory = fcntl(fuse_queue_memory(queue), F_DUPFD_CLOEXEC, 0);
    assert_int_equal(pwrite(memory, "?", 1, 0), 1);
    assert_int_equal(fuse_queue_new(&other, memory), -EBADMSG);
    assert_int_equal(ftruncate(memory, 10), 0);
    assert_int_equal(fuse_queue_new(&other, memory), -EBADMSG);
    assert_int_equal(close(memory), 0);
}

/* Lengths that no request has: the slot counts as free. */
static void test_absurd_lengths(void **state)
{
    static const uint32_t lengths[] = {1, sizeof(struct fuse_in_header) - 1, UINT32_MAX};
    struct fuse_queue *queue, *other;
    int memory;

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    memory = fuse_queue_memory(queue);
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        assert_int_equal(pwrite(memory, &lengths[i], sizeof(lengths[i]), 4096), 4);
        assert_int_equal(fuse_queue_new(&other, fcntl(memory, F_DUPFD_CLOEXEC, 0)), 0);
        assert_int_equal(fuse_queue_length(other), 0);
        fuse_queue_free(other);
    }
    fuse_queue_free(queue);
}

static void test_unmounted(void **state)
{
    _cleanup_(cleanup_fuse_queue_free) struct fuse_queue *queue = NULL;

    assert_int_equal(fuse_queue_new(&queue, -1), 0);
    assert_int_equal(fuse_queue_fill(queue, -1), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_one),   cmocka_unit_test(test_turns),
        cmocka_unit_test(test_full),           cmocka_unit_test(test_successor),
        cmocka_unit_test(test_foreign_memory), cmocka_unit_test(test_absurd_lengths),
        cmocka_unit_test(test_unmounted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
