/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The file names of the programs that VMs are made of. Used by discovery and, in
 * the kernel, by bpf/vm_usage.bpf.c: plain macros, so that there is one list.
 */

/* QEMU: begins with the prefix, and is longer; or is one of the names. */
#define QEMU_PREFIX "qemu-system-"
#define QEMU_NAMES(X) X("kvm") X("qemu-kvm")

/* Programs that serve one VM. */
#define HELPER_NAMES(X) X("virtiofsd") X("swtpm")

/* Kernel threads that serve one VM: followed by the PID of its QEMU. */
#define VHOST_PREFIX "vhost-"
