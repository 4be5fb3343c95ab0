/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * One process of the host, which may be part of a VM.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uuid/uuid.h>

#include "discovery/qemu_cmdline.h"
#include "discovery/vm.h"
#include "host/trusted_owners.h"

enum process_kind {
    PROCESS_OTHER,  /* no part of a VM, a zombie, or QEMU without a VM */
    PROCESS_QEMU,   /* runs a VM */
    PROCESS_HELPER, /* shares a VM's control group, or serves it on a socket */
    PROCESS_VHOST,  /* kernel thread of a QEMU process */
};

/** What decides about a process beside its own texts. */
struct process_rules {
    const struct trusted_owners *owners;
    bool accept_untrusted; /* a process of another owner may be part of a VM as well */
    unsigned vcpus_max;    /* of a number that only the process itself tells */
};

/** The facts that /proc gives about a process. */
struct process {
    struct process_id id;
    enum process_kind kind;
    pid_t parent;
    uint32_t untrusted;           /* uid of its owner, where that one is not trusted, or 0 */
    bool refused;                 /* runs a VM's program, and is PROCESS_OTHER for its owner */
    pid_t served;                 /* PROCESS_VHOST: its QEMU */
    struct qemu_cmdline *cmdline; /* PROCESS_QEMU, else NULL */
    unsigned vcpus;               /* PROCESS_QEMU: present now, 1 or more */
    uint64_t threads;     /* PROCESS_QEMU: how many there were when the vCPUs were counted */
    char *machine;        /* control group of the VM, or NULL */
    bool private_machine; /* only the host's service manager can have put the process there */
    char *socket;         /* PROCESS_HELPER: where it serves, or NULL */
    uuid_t uuid;          /* PROCESS_QEMU: the VM's; null until vm_uuids_assign() */
};

/** Releases what the process holds and empties it. */
void process_deinit(struct process *process);

/**
 * Reads what a process is. A process is trusted for its owner, or for the control
 * group that it is in; the command line of any other is not read, unless the rules accept it.
 * @param proc_fd     the proc file system's directory
 * @param executable  target of /proc/PID/exe; empty for a process that has none;
 *                    NULL when reading the link is not permitted: argv[0] then counts
 * @return 1; 0 when the process is gone, ret is then untouched; or -ENOMEM
 */
int process_examine(int proc_fd, pid_t pid, const char *executable,
                    const struct process_rules *rules, struct process *ret);

/**
 * Whether a process still exists under its PID and start time, and is no zombie.
 * @return whether it is
 */
bool process_lives(int proc_fd, const struct process_id *id);

/**
 * Like process_lives() for a PROCESS_QEMU, and counts the vCPUs anew if the number of
 * threads changed or recount is set.
 */
bool process_update_qemu(int proc_fd, struct process *process, const struct process_rules *rules,
                         bool recount);

/** Whether a thread's name is the one that QEMU gives a vCPU ("CPU 0/KVM", with debug-threads). */
bool comm_is_vcpu(const char *comm);
