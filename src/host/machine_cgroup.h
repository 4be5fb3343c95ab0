/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control group that holds all processes of one VM.
 */

#include <stdbool.h>
#include <stddef.h>

enum machine_cgroup_type {
    MACHINE_CGROUP_SCOPE, /* libvirt's or Proxmox's: every process in it works for the VM */
    MACHINE_CGROUP_POD,   /* KubeVirt's: a pod is one VM, and holds processes that manage the VM */
};

struct machine_cgroup {
    enum machine_cgroup_type type;
    const char *path; /* points into the text; not NUL-terminated; the VM's key on this host */
    size_t length;
};

/**
 * Finds the VM's control group in /proc/PID/cgroup.
 * @param text  lines "id:controllers:path" of cgroup v1, v2 or both, maybe cut
 * @return 1, or 0 where the process is in no VM's group; ret is then untouched
 */
int parse_machine_cgroup(const char *text, size_t length, struct machine_cgroup *ret);

/**
 * Finds the line of one hierarchy in /proc/PID/cgroup.
 * @param controller  of cgroup v1, "memory"; "" for cgroup v2
 * @param ret         points into the text; ends with the newline
 * @return 1, or 0 where there is none; ret is then untouched
 */
int parse_cgroup_line(const char *text, size_t length, const char *controller, const char **ret,
                      size_t *ret_length);

/**
 * Whether only the host's service manager can have made the group: it is a
 * scope, and all groups above it are slices (libvirt without systemd: "machine"
 * and "*.partition"), but none of a user's. A group that a user or a container makes
 * is below a service or a scope, and may have any name.
 */
bool machine_cgroup_is_private(const struct machine_cgroup *cgroup);

/**
 * The id of libvirt's running domain whose control group has that path, as the group's name
 * has it; 0: it has none.
 */
unsigned machine_cgroup_libvirt_id(const char *path);
