/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taskstats messages of the kernel's, in the order in which they were received. */

#include "fuzz.h"

#include <linux/netlink.h>
#include <string.h>

#include "usage/exit_message.h"

static void on_exit_told(pid_t pid, uint64_t cpu_ns, void *userdata)
{
    ++*(int *)userdata;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nlmsghdr *message;
    int n = 0;

    /* libnl hands on only what is whole: a header, and as many bytes as it says. */
    if (size < sizeof(*message))
        return 0;
    message = malloc(size);
    require(message != NULL);
    memcpy(message, data, size);
    message->nlmsg_len = (uint32_t)size;
    require(exit_message_parse(message, on_exit_told, &n) == n && n <= 2);
    free(message);
    return 0;
}
