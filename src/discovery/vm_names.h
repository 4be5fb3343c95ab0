/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The names of the programs and threads that VMs are made of. Used by discovery and, in
 * the kernel, by bpf/vm_usage.bpf.c: plain macros, so that there is one list.
 */

/* QEMU: begins with the prefix, and is longer; or is one of the names. */
#define QEMU_PREFIX "qemu-system-"
#define QEMU_NAMES(X) X("kvm") X("qemu-kvm")

/* Programs that serve one VM. */
#define HELPER_NAMES(X) X("virtiofsd") X("swtpm")

/* Kernel threads that serve one VM: followed by the PID of its QEMU. */
#define VHOST_PREFIX "vhost-"

/* QEMU's vCPU threads: followed by a number and the accelerator ("CPU 0/KVM"). */
#define VCPU_PREFIX "CPU "
