/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The domains that libvirt told of last. One thread fills the table, another
 * copies it and is woken by a descriptor when it changed; neither waits for
 * what the other one waits for.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <uuid/uuid.h>

#include "discovery/vm.h"

struct libvirt_domain {
    uuid_t uuid;
    char name[VM_NAME_MAX];
    bool defined;   /* persistent: stays when it is off */
    unsigned vcpus; /* at the next start, or present when it was last listed; 1 or more */
    unsigned
        start_number; /* another number each time it begins to run; 0: off, or carried unknown */
    struct vm_arrival arrival; /* what it brought with it */
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

/** Takes over the memory of `domains`, in any order, as all that there are. */
void libvirt_table_replace(struct libvirt_table *table, struct libvirt_domain *domains, size_t n);

/** Adds or updates a domain. Without memory for one more it stays unknown until the next list. */
void libvirt_table_put(struct libvirt_table *table, const struct libvirt_domain *domain);

/** Takes a domain out; one that is not there is none of its business. */
void libvirt_table_remove(struct libvirt_table *table, const uuid_t uuid);

/**
 * What a domain brought with it into a run.
 * @return false: of this run nothing is known yet
 */
bool libvirt_table_arrival(struct libvirt_table *table, const uuid_t uuid, unsigned start_number,
                           struct vm_arrival *ret);

/** A restarted libvirtd may give a later run the number of an earlier one. */
void libvirt_table_forget_runs(struct libvirt_table *table);

/**
 * The domains, sorted by UUID.
 * @param ret  new memory, to be freed by the caller; NULL where there are none
 * @return 0 or -ENOMEM
 */
int libvirt_table_copy(struct libvirt_table *table, struct libvirt_domain **ret, size_t *ret_n);
