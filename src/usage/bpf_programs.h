/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel side of the bpf provider: bpf/vm_usage.bpf.c, loaded and attached,
 * and its maps. A former daemon may have loaded them; then they have gone on counting.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/cpu_counters.h"
#include "host/topology.h"
#include "host/trusted_owners.h"
#include "shared/vm_usage.h"
#include "usage/bpf_handover.h"

struct bpf_programs;

struct bpf_programs_config {
    const struct topology *topology;
    unsigned n_sockets;
    uint32_t processes_max;             /* how many processes can be listed */
    const struct cpu_counter *counters; /* VM_USAGE_COUNTERS of them */
    const struct trusted_owners *owners; /* whose programs are listed by name; NULL: everybody's */
    struct descriptors *descriptors;    /* of the service manager */
    uint64_t
        former_id; /* of the set whose saved state is known, so that it may be continued; or 0 */
};

/**
 * Continues a former daemon's programs if they are the same build and their saved
 * state is known; otherwise loads new ones and hands them to the service manager.
 * @return 0, or a negative errno when the kernel refuses them; logged for debugging only
 */
int bpf_programs_new(struct bpf_programs **ret, const struct bpf_programs_config *config);
struct bpf_programs *bpf_programs_free(struct bpf_programs *programs);

/** Whether a former daemon loaded the programs. */
bool bpf_programs_continued(const struct bpf_programs *programs);

/** The set's identity; counters_in_use has a bit per enum vm_usage_counter that the machine counts.
 */
const struct bpf_set *bpf_programs_set(const struct bpf_programs *programs);

/** Whether any core runs two threads. */
bool bpf_programs_has_siblings(const struct bpf_programs *programs);

/** Updates the programs after CPUs came online or went offline. */
void bpf_programs_update_cpus(struct bpf_programs *programs, const struct topology *topology);

/** A copy of a CPU's record. The kernel may change each field at any time; a field is never torn.
 */
struct vm_usage_cpu bpf_programs_cpu(const struct bpf_programs *programs, size_t cpu);

/**
 * Charges the task that runs on a CPU with what it used so far, as of the
 * scheduler's last tick there: 1 to 10 ms ago, a second ago on a nohz_full CPU;
 * newer time counts at the next call. The CPU is interrupted.
 */
void bpf_programs_close_slice(struct bpf_programs *programs, size_t cpu);

/** Lists a process from now on. @return 0; -EEXIST: it is listed; -E2BIG: no room */
int bpf_programs_add(struct bpf_programs *programs, const struct vm_usage_key *key);
void bpf_programs_remove(struct bpf_programs *programs, const struct vm_usage_key *key);

/** Size of a process' record: that of struct vm_usage_process for the sockets of the host. */
size_t bpf_programs_record_size(const struct bpf_programs *programs);

/**
 * Reads the totals of all listed processes.
 * @param ret_keys     valid until the next call, in no order
 * @param ret_records  as many records
 * @return 0 or a negative errno
 */
int bpf_programs_read(struct bpf_programs *programs, const struct vm_usage_key **ret_keys,
                      const char **ret_records, size_t *ret_n);

/**
 * Calls back for each process that was listed, became another program, or
 * ended since the last call, and for the last few that run a VM's program for an
 * owner who is not trusted.
 * @return 0, or -EOVERFLOW when some were missed
 */
int bpf_programs_take_events(struct bpf_programs *programs, void (*on_process)(pid_t pid, void *),
                             void *userdata);
