/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/** The part of the host's static energy that a running VM is shown beside its dynamic energy. */
enum static_policy {
    STATIC_EXCLUDE,      /* none */
    STATIC_EQUAL,        /* the same for every running VM */
    STATIC_PROPORTIONAL, /* by the VMs' dynamic energy in the interval */
    STATIC_VCPU,         /* by the VMs' vCPU counts */
};

/** "exclude", "equal", "proportional", "vcpu". */
const char *static_policy_to_string(enum static_policy policy);

/** @return 0 or -EINVAL */
int static_policy_from_string(const char *text, enum static_policy *ret);

/** A running VM's weight among all running VMs. */
uint64_t static_policy_weight(enum static_policy policy, unsigned vcpus, uint64_t dynamic_uj);
