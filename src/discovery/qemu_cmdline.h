/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The description of a VM on the command line of its QEMU process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"

/* A VM has a few: its monitors, its agent's, and one for each vhost-user device and TPM. */
#define QEMU_SOCKETS_MAX 64

struct qemu_cmdline {
    char name[VM_NAME_MAX]; /* -name, cut; empty where not given */
    char id[VM_NAME_MAX];   /* -id (Proxmox), cut; empty where not given */
    uuid_t uuid;            /* -uuid or -smbios type=1,uuid=; null where not given */
    unsigned vcpus;         /* -smp: 1 or more, those present at the start */
    enum vm_manager manager;
    char **sockets; /* paths of -chardev socket,path=, the first QEMU_SOCKETS_MAX of them */
    size_t n_sockets;
    size_t n_sockets_left_out;
};

/** Frees the command line's memory and empties it. */
void qemu_cmdline_deinit(struct qemu_cmdline *cmdline);

/**
 * Whether a path is that of a program which runs VMs: qemu-system-*, qemu-kvm
 * or kvm, followed or not by the " (deleted)" of /proc/PID/exe.
 */
bool path_is_qemu(const char *path);

/**
 * Reads the command line of a process whose executable path_is_qemu().
 * @param text  /proc/PID/cmdline: NUL-separated, any bytes, maybe cut
 * @return 1 for a VM; 0 where QEMU runs none (it prints its version or a list,
 *         is probed with the machine "none", or the text is empty); ret is then
 *         untouched; or -ENOMEM
 */
int parse_qemu_cmdline(const char *text, size_t length, struct qemu_cmdline *ret);
