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

/* QEMU's own limit does not exist; libvirt's names are file names. Longer ones are cut. */
#define VM_NAME_MAX 256
#define UUID_TEXT_SIZE 37

/** A process, for ever: a PID alone is given to another process later. */
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
    VM_MANAGER_NONE, /* a QEMU process somebody started */
    VM_MANAGER_LIBVIRT,
    VM_MANAGER_PROXMOX,
    VM_MANAGER_KUBEVIRT,
};

/**
 * A VM's energy as it goes with the VM to another host, by enum zone_kind: the sums over its zones
 * of that kind. Below 2^61.
 */
struct migrated_energy {
    uint64_t total_uj[ZONE_KINDS]; /* used so far, wherever it ran */
    uint64_t bound_uj[ZONE_KINDS]; /* its guest has been shown no more; >= total_uj */
};

/** What a VM brought with it when it began to run here. */
struct vm_arrival {
    bool present;
    bool own; /* written on this host */
    struct migrated_energy energy;
};

struct vm {
    uuid_t uuid;            /* the key of the VM's totals */
    char name[VM_NAME_MAX]; /* as given, any bytes but NUL; never empty */
    enum vm_manager manager;
    bool defined;   /* a persistent libvirt domain: its tree exists while it is off */
    bool running;   /* at least one QEMU process lives */
    unsigned vcpus; /* 1 or more */
    unsigned
        start_number; /* changes with each start, arrival and return; 0: carried is not known */
    struct vm_arrival arrival;
    struct vm_process *processes;
    size_t n_processes;
};

/** A running VM's energy, for libvirt to keep with the VM. */
struct vm_departure {
    uuid_t uuid;
    unsigned start_number; /* as in struct vm: what a later run brings is not overwritten unread */
    struct migrated_energy energy;   /* to be kept at the next writing */
    uint64_t need_uj[ZONE_KINDS];    /* what is kept must be anew as soon as its bound is below */
    uint64_t ceiling_uj[ZONE_KINDS]; /* answer: no more may be shown; UINT64_MAX: no limit */
};

/** Processes that may have begun, ended, or become another program or a VM's. */
struct process_changes {
    bool all; /* any process may have */
    const pid_t *pids;
    size_t n;
};

/** All VMs known at one tick, sorted by UUID, each UUID once. */
struct vm_table {
    struct vm *vms;
    size_t n;
};

/** Releases what the table holds and empties it. */
void vm_table_deinit(struct vm_table *table);

/** The VM of that UUID, or NULL. */
const struct vm *vm_table_find(const struct vm_table *table, const uuid_t uuid);

/** "none", "libvirt", "proxmox", "kubevirt". */
const char *vm_manager_to_string(enum vm_manager manager);
