/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Names that belong to VMs. What is recognised here is a candidate: user space
 * decides whether it belongs to a VM.
 */

#include "lib/kernel.h"
#include "shared/vm_names.h"

#define NAME_SIZE 32
#define NAME_COMM_SIZE 16

static __always_inline bool name_is_equal(const char *a, const char *b, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* The terminating zero is part of a name, not of a prefix. */
#define NAME_IS(word) name_is_equal(name, word, sizeof(word)) ||
#define NAME_HAS_PREFIX(prefix) name_is_equal(name, prefix, sizeof(prefix) - 1)

/* @return whether the file of that path is QEMU or a helper of it */
static bool name_is_vm_program(const unsigned char *path)
{
    char name[NAME_SIZE] = {0};

    bpf_probe_read_kernel_str(name, sizeof(name), path);
    return QEMU_NAMES(NAME_IS) HELPER_NAMES(NAME_IS) NAME_HAS_PREFIX(QEMU_PREFIX);
}

static bool name_is_machine(const struct cgroup *cgroup)
{
    char name[64] = {0}, tail[sizeof(MACHINE_SUFFIX)] = {0};
    const char *whole = BPF_CORE_READ(cgroup, kn, name);
    int length = bpf_probe_read_kernel_str(name, sizeof(name), whole);

    if (NAME_HAS_PREFIX(MACHINE_PREFIX))
        return true;
    if (length < (int)sizeof(MACHINE_SUFFIX))
        return false;
    bpf_probe_read_kernel_str(tail, sizeof(tail), whole + length - sizeof(MACHINE_SUFFIX));
    return name_is_equal(tail, MACHINE_SUFFIX, sizeof(MACHINE_SUFFIX));
}
