/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel side of request energy: bpf/request_energy.bpf.c, loaded and
 * attached, and its maps.
 *
 *     settings (factor, weights) --> kernel --> totals of all CPUs (each interval)
 *                                           --> requests that are over (as they come)
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/request_energy.h"

/** What may be counted beside CPU time: bit per enum request_counter, and these. */
#define REQUEST_WAKEUPS (1u << REQUEST_COUNTERS)
#define REQUEST_MIGRATIONS (1u << (REQUEST_COUNTERS + 1))

struct request_programs;

/** Totals of all CPUs; they wrap. */
struct request_totals {
    uint64_t work; /* of all tasks, in 2^-10 of the weights' unit */
    uint64_t bound_work;
    uint64_t bound_energy;      /* 2^-20 of a microjoule, as are all energies of the kernel */
    uint64_t background_energy; /* can step back: some of it may turn out to be bound */
    uint64_t runtime_ns;
    uint64_t wakeups;
    uint64_t migrations;
    uint64_t counted[REQUEST_COUNTERS];
    uint64_t events_lost;      /* requests that ended while the ring was full */
    uint64_t requests_dropped; /* requests for which the map had no room */
    uint64_t foreign;          /* connections that are in another program's map of sockets */
};

/** CPU time of all tasks at one frequency. */
struct request_frequency_time {
    uint32_t khz;
    uint64_t runtime_ns;
};

/**
 * Loads the programs and begins to count work; no connection is followed yet.
 * Hardware counters, frequencies and the tracepoint of system calls are optional: the
 * programs work without those that the machine lacks.
 * @param counts  what to count; the rest is not counted, whatever its weight
 * @return 0 or a negative errno; the missing feature is logged
 */
int request_programs_new(struct request_programs **ret, unsigned counts);

/** Detaches all; connections that were followed go on untouched. NULL is accepted. @return NULL */
struct request_programs *request_programs_free(struct request_programs *programs);

/** Sets the weights and the factor of work from now on. No field is added to a response while the
 * factor is 0. */
void request_programs_set(struct request_programs *programs,
                          const struct request_settings *settings);

/**
 * Gives CPU time at a frequency its own weight; the time at that frequency is counted anew.
 * @param weight  of a nanosecond, in 2^-REQUEST_WEIGHT_BITS; 0: the weight of all other time
 * @return 0 or a negative errno
 */
int request_programs_set_frequency(struct request_programs *programs, uint32_t khz,
                                   uint64_t weight);

/** CPU time by frequency, in no order. @return how many were written to ret, n at most */
size_t request_programs_read_frequencies(const struct request_programs *programs, size_t n,
                                         struct request_frequency_time *ret);

/** To be called when CPUs came or went: their hardware counters end with them. */
void request_programs_update_cpus(struct request_programs *programs);

/**
 * Follows the inbound connections of a cgroup's sockets; connections that exist
 * already from their next request on. Other programs on the cgroup run as well.
 * @param fd        of the cgroup's directory
 * @param ret_link  for request_programs_unwatch()
 * @return 0 or a negative errno
 */
int request_programs_watch(struct request_programs *programs, int fd, int *ret_link);
void request_programs_unwatch(int link);

/** Counts what running tasks did until now, and sums up all CPUs. */
void request_programs_read(struct request_programs *programs, struct request_totals *ret);

/**
 * Calls back for each request that is over, lets go of abandoned connections, and watches system
 * calls once that is needed. To be called several times a second.
 * @return the requests' number, or a negative errno
 */
int request_programs_take_ended(struct request_programs *programs,
                                void (*on_request)(const struct request *request, void *userdata),
                                void *userdata);
