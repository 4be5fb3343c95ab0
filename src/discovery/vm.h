/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Which virtual machines exist, and which processes do their work.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uuid/uuid.h>

#include "source/zone.h"

/* The most VMs that are listed. The usage of younger ones counts to the host: a flood of new VMs
   does not displace those that run. */
#define VMS_MAX 16384

/* QEMU's own limit does not exist; libvirt's names are file names. Longer ones are cut. */
#define VM_NAME_MAX 256
#define UUID_TEXT_SIZE 37

/** The identity of a process: a PID alone may be given to another process later. */
struct process_id {
    pid_t pid;
    uint64_t start_ticks; /* field 22 of /proc/PID/stat: clock ticks after boot */
};

enum vm_process_role {
    VM_PROCESS_QEMU,   /* vCPU, I/O and worker threads; holds the guest's memory */
    VM_PROCESS_HELPER, /* virtiofsd, swtpm, vhost kernel thread: works for the VM */
};

struct vm_process {
    struct process_id id;
    enum vm_process_role role;
};

/** Who manages the VM. */
enum vm_manager {
    VM_MANAGER_NONE, /* a QEMU process without a manager */
    VM_MANAGER_LIBVIRT,
    VM_MANAGER_PROXMOX,
    VM_MANAGER_KUBEVIRT,
};

/**
 * The energy of a VM that moves to another host, by enum zone_kind: the sums over all zones
 * of that kind. Below 2^61.
 */
struct migrated_energy {
    uint64_t total_uj[ZONE_KINDS]; /* used so far, on all hosts */
    uint64_t bound_uj[ZONE_KINDS]; /* the most that its guest has been shown; >= total_uj */
};

/** The energy with which a VM arrived when it started here. */
struct vm_arrival {
    bool present;
    bool own; /* this host wrote it */
    struct migrated_energy energy;
};

struct vm {
    uuid_t uuid;            /* the key of the VM's totals */
    char name[VM_NAME_MAX]; /* as given: any bytes except NUL, never empty */
    enum vm_manager manager;
    bool trusted;   /* not only its own word tells its UUID and name */
    bool defined;   /* a persistent libvirt domain: its tree exists while it is off */
    bool running;   /* at least one QEMU process lives */
    unsigned vcpus; /* 1 or more */
    unsigned
        start_number; /* changes with each start, arrival and return; 0: the arrival is not known */
    struct vm_arrival arrival;
    struct vm_process *processes;
    size_t n_processes;
};

/** A running VM's energy, to be kept in its libvirt metadata. */
struct vm_departure {
    uuid_t uuid;
    unsigned
        start_number; /* as in struct vm: metadata of a later start is not overwritten unread */
    struct migrated_energy energy; /* for the next write */
    uint64_t need_uj[ZONE_KINDS];  /* a write is due when the written bound is lower */
    uint64_t
        ceiling_uj[ZONE_KINDS]; /* returned: the tree must not show more; UINT64_MAX: no limit */
};

/** Processes that may have started, ended, run another program or joined a VM. */
struct process_changes {
    bool all; /* any process may have */
    const pid_t *pids;
    size_t n;
};

/** What is beyond a bound: nothing on a host grows without one. */
struct vm_excess {
    size_t vms;     /* beyond VMS_MAX */
    size_t sockets; /* beyond QEMU_SOCKETS_MAX of their VM: helpers on these are not found */
    pid_t pid;      /* a process with such sockets */
};

/** All VMs known at one tick, sorted by UUID, each UUID once. */
struct vm_table {
    struct vm *vms;
    size_t n;
    struct vm_excess excess;
};

/** Frees the table's memory and empties it. */
void vm_table_deinit(struct vm_table *table);

/** The VM of that UUID, or NULL. */
const struct vm *vm_table_find(const struct vm_table *table, const uuid_t uuid);

/** "none", "libvirt", "proxmox", "kubevirt". */
const char *vm_manager_to_string(enum vm_manager manager);
