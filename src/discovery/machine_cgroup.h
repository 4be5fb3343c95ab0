/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control group that holds all processes of one VM.
 */

#include <stddef.h>

enum machine_cgroup_type {
    MACHINE_CGROUP_SCOPE, /* libvirt's or Proxmox's: whatever is in it works for the VM */
    MACHINE_CGROUP_POD,   /* KubeVirt's: a pod is one VM, but holds its management as well */
};

struct machine_cgroup {
    enum machine_cgroup_type type;
    const char *path; /* points into the text; not NUL-terminated; the VM's key on this host */
    size_t length;
};

/**
 * Finds the VM's control group in /proc/PID/cgroup.
 * @param text  lines "id:controllers:path" of cgroup v1, v2 or both, maybe cut
 * @return 1, or 0 where the process is in none; ret is then untouched
 */
int parse_machine_cgroup(const char *text, size_t length, struct machine_cgroup *ret);
