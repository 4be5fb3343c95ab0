/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The names of the programs, threads and control groups that VMs are made of: one
 * list for user space and for the programs of bpf/vm_usage.bpf.c.
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

/* The control groups of libvirt's machines: a systemd scope begins with the prefix (an escaped
 * dash follows), a group that libvirt made without systemd ends with the suffix. */
#define MACHINE_PREFIX "machine-qemu"
#define MACHINE_SUFFIX ".libvirt-qemu"
