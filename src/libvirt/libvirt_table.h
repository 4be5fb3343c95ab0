/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domains of libvirt's last answers. One thread fills the table, another
 * copies it and is woken through a descriptor when the table changes. The lock is
 * held for the copy only, never while a thread waits for libvirt.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"

struct libvirt_domain {
    uuid_t uuid;
    char name[VM_NAME_MAX];
    bool defined;   /* persistent: the domain stays known while it is off */
    unsigned vcpus; /* at the next start, or present when it was last listed; 1 or more */
    unsigned
        start_number; /* another number each time the domain starts; 0: off, or arrival unknown */
    struct vm_arrival arrival; /* energy that came with it from another host */
};

struct libvirt_table {
    int event_fd; /* readable after a change, until libvirt_table_copy() */
    pthread_mutex_t lock;
    /* Under the lock: */
    struct libvirt_domain *domains; /* sorted by UUID */
    size_t n;
    size_t room;
};

/** @return 0 or a negative errno (out of descriptors); libvirt_table_deinit() is safe either way */
int libvirt_table_init(struct libvirt_table *table);

void libvirt_table_deinit(struct libvirt_table *table);

/** Replaces all domains. @param domains  in any order; the table takes over their memory */
void libvirt_table_replace(struct libvirt_table *table, struct libvirt_domain *domains, size_t n);

/** Adds or updates a domain. When memory is short, a new domain stays unknown until the next list.
 */
void libvirt_table_put(struct libvirt_table *table, const struct libvirt_domain *domain);

/** Removes a domain; no-op when it is absent. */
void libvirt_table_remove(struct libvirt_table *table, const uuid_t uuid);

/**
 * The energy with which a domain arrived at this start.
 * @return false when it has not been read yet
 */
bool libvirt_table_arrival(struct libvirt_table *table, const uuid_t uuid, unsigned start_number,
                           struct vm_arrival *ret);

/** Forgets all start numbers: a restarted libvirtd may reuse the number of an earlier start. */
void libvirt_table_forget_starts(struct libvirt_table *table);

/**
 * The domains, sorted by UUID.
 * @param ret  new memory, to be freed by the caller; NULL where there are none
 * @return 0 or -ENOMEM
 */
int libvirt_table_copy(struct libvirt_table *table, struct libvirt_domain **ret, size_t *ret_n);
