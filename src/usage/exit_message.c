/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/exit_message.h"

#include <linux/taskstats.h>
#include <netlink/genl/genl.h>
#include <stddef.h>

/* Kernels append fields to the statistics: older ones may end before the CPU time. */
static struct nla_policy aggregate_policy[TASKSTATS_TYPE_MAX + 1] = {
    [TASKSTATS_TYPE_PID] = {.type = NLA_U32},
    [TASKSTATS_TYPE_TGID] = {.type = NLA_U32},
    [TASKSTATS_TYPE_STATS] = {.minlen = offsetof(struct taskstats, cpu_run_virtual_total) +
                                        sizeof(((struct taskstats *)NULL)->cpu_run_virtual_total)},
};

/* The attribute of one thread or process: its PID, and its statistics up to now. */
static int take_aggregate(struct nlattr *aggregate, int pid_type, exit_handler on_exit,
                          void *userdata)
{
    struct nlattr *attributes[TASKSTATS_TYPE_MAX + 1];
    struct taskstats stats = {0};

    if (!aggregate ||
        nla_parse_nested(attributes, TASKSTATS_TYPE_MAX, aggregate, aggregate_policy) < 0 ||
        !attributes[pid_type] || !attributes[TASKSTATS_TYPE_STATS])
        return 0;
    nla_memcpy(&stats, attributes[TASKSTATS_TYPE_STATS], sizeof(stats));
    on_exit((pid_t)nla_get_u32(attributes[pid_type]), stats.cpu_run_virtual_total, userdata);
    return 1;
}

int exit_message_parse(struct nlmsghdr *message, exit_handler on_exit, void *userdata)
{
    struct nlattr *attributes[TASKSTATS_TYPE_MAX + 1];

    if (genlmsg_parse(message, 0, attributes, TASKSTATS_TYPE_MAX, NULL) < 0)
        return 0;
    return take_aggregate(attributes[TASKSTATS_TYPE_AGGR_PID], TASKSTATS_TYPE_PID, on_exit,
                          userdata) +
           take_aggregate(attributes[TASKSTATS_TYPE_AGGR_TGID], TASKSTATS_TYPE_TGID, on_exit,
                          userdata);
}
