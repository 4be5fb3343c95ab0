/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taskstats messages, as the kernel writes them and as it does not. */

#include "unit.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <string.h>

#include "usage/exit_message.h"

/* A message that is being written. */
struct message {
    _Alignas(struct nlmsghdr) char bytes[4096];
    size_t length;
};

struct told {
    int n;
    pid_t pids[2];
    uint64_t cpu_ns[2];
};

static void on_exit_told(pid_t pid, uint64_t cpu_ns, void *userdata)
{
    struct told *told = userdata;

    assert_in_range(told->n, 0, 1);
    told->pids[told->n] = pid;
    told->cpu_ns[told->n++] = cpu_ns;
}

static void begin(struct message *message)
{
    *message = (struct message){.length = NLMSG_HDRLEN + GENL_HDRLEN};
}

static void add(struct message *message, unsigned type, const void *data, size_t length)
{
    const struct nlattr header = {.nla_len = (uint16_t)(NLA_HDRLEN + length),
                                  .nla_type = (uint16_t)type};

    memcpy(message->bytes + message->length, &header, sizeof(header));
    memcpy(message->bytes + message->length + NLA_HDRLEN, data, length);
    message->length += NLA_HDRLEN + NLA_ALIGN(length);
}

static void add_end(struct message *message, unsigned type, const void *pid, size_t pid_length,
                    uint64_t cpu_ns, size_t stats_length)
{
    const struct taskstats stats = {.version = TASKSTATS_VERSION, .cpu_run_virtual_total = cpu_ns};
    struct message inner = {.length = 0};

    add(&inner, type == TASKSTATS_TYPE_AGGR_PID ? TASKSTATS_TYPE_PID : TASKSTATS_TYPE_TGID, pid,
        pid_length);
    add(&inner, TASKSTATS_TYPE_STATS, &stats, stats_length);
    add(message, type, inner.bytes, inner.length);
}

static int parse(struct message *message, struct told *told)
{
    struct nlmsghdr *header = (struct nlmsghdr *)message->bytes;

    *told = (struct told){0};
    header->nlmsg_len = (uint32_t)message->length;
    return exit_message_parse(header, on_exit_told, told);
}

static void test_thread_and_process(void **state)
{
    const uint32_t thread = 1235, process = 1234;
    struct message message;
    struct told told;

    begin(&message);
    add_end(&message, TASKSTATS_TYPE_AGGR_PID, &thread, sizeof(thread), 5,
            sizeof(struct taskstats));
    add_end(&message, TASKSTATS_TYPE_AGGR_TGID, &process, sizeof(process), 7,
            sizeof(struct taskstats));
    assert_int_equal(parse(&message, &told), 2);
    assert_int_equal(told.pids[0], 1235);
    assert_true(told.cpu_ns[0] == 5);
    assert_int_equal(told.pids[1], 1234);
    assert_true(told.cpu_ns[1] == 7);
}

/* Each is passed over, and nothing beside it is read. */
static void test_not_of_the_form(void **state)
{
    static const struct {
        size_t pid_length, stats_length;
    } cases[] = {
        {0, sizeof(struct taskstats)},
        {2, sizeof(struct taskstats)},
        {4, 0},
        {4, offsetof(struct taskstats, cpu_run_virtual_total) + 7},
    };
    const uint32_t pid = 1234;
    struct message message;
    struct told told;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        begin(&message);
        add_end(&message, TASKSTATS_TYPE_AGGR_PID, &pid, cases[i].pid_length, 5,
                cases[i].stats_length);
        assert_int_equal(parse(&message, &told), 0);
    }
    begin(&message);
    assert_int_equal(parse(&message, &told), 0);
}

static void test_cut(void **state)
{
    const uint32_t pid = 1234;
    struct message message;
    struct told told;
    size_t whole;

    begin(&message);
    add_end(&message, TASKSTATS_TYPE_AGGR_PID, &pid, sizeof(pid), 5, sizeof(struct taskstats));
    for (whole = message.length; message.length > 0; message.length--)
        assert_int_equal(parse(&message, &told), message.length == whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_and_process),
        cmocka_unit_test(test_not_of_the_form),
        cmocka_unit_test(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
