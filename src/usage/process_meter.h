/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The consumption of one process, from /proc and its process clock.
 *
 * CPU time comes from the process clock (clock_getcpuclockid(3)): nanoseconds,
 * threads that already ended included, guest time counted once. /proc/PID/stat
 * has the same sum cut to clock ticks; it replaces the clock where there is none (a
 * recorded tree).
 *
 * Sockets: on a host with several, each thread's time (task/TID/schedstat)
 * counts to the socket of the CPU it last ran on (task/TID/stat). These sums
 * only set the proportions in which the process' own total is divided, so the time
 * of threads that started and ended within one interval is not lost.
 *
 * Identity: the process is held by a descriptor of its /proc directory. Reads
 * below it fail once the process is gone, even if its PID was given to another. The
 * clock is read first and the directory after it: if the directory still answers, the
 * PID, and so the clock, belonged to this process.
 */

#include <stdbool.h>
#include <stdint.h>

#include "host/topology.h"
#include "usage/usage.h"

/** Where processes are looked for. */
struct process_meter_root {
    int proc_fd;                     /* of the directory /proc */
    bool live;                       /* the running kernel's: it has process clocks */
    unsigned n_sockets;              /* threads are read if there are several */
    const struct topology *topology; /* may be without CPUs: then all is socket 0 */
};

struct process_meter;

/**
 * Begins to watch a process; what it consumed so far is not counted.
 * @return 0, -ESRCH when it is gone or another process has its PID, or -ENOMEM
 */
int process_meter_new(struct process_meter **ret, const struct process_meter_root *root,
                      struct process_id id);
struct process_meter *process_meter_free(struct process_meter *meter);

/** What a process has consumed since its start. */
struct process_totals {
    uint64_t cpu_ns;
    uint64_t io_bytes;
};

/** As of the last update. */
struct process_totals process_meter_totals(const struct process_meter *meter);

/** Counts the consumption before the watch as well, less the given totals. */
void process_meter_count_from(struct process_meter *meter, struct process_totals totals);

/**
 * Reads what the process consumed since the last call and keeps it for process_meter_take().
 * @return 0, -ESRCH when it is gone (earlier readings stay), or -ENOMEM
 */
int process_meter_update(struct process_meter *meter, const struct process_meter_root *root);

/** The same without its threads: for a process that ended and is about to vanish. */
void process_meter_update_ended(struct process_meter *meter);

/** Sets its CPU time since its start, as reported by the kernel when it ended. */
void process_meter_note_cpu(struct process_meter *meter, uint64_t cpu_ns);

/** Adds what it consumed since the last take to an amount. */
void process_meter_take(struct process_meter *meter, struct usage_amount *amount);
