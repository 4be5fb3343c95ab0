/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt/libvirt_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/search.h"

int libvirt_table_init(struct libvirt_table *table)
{
    *table = (struct libvirt_table){.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pthread_mutex_init(&table->lock, NULL);
    return table->event_fd < 0 ? -errno : 0;
}

void libvirt_table_deinit(struct libvirt_table *table)
{
    pthread_mutex_destroy(&table->lock);
    if (table->event_fd >= 0)
        close(table->event_fd);
    free(table->domains);
}

static void signal_change(struct libvirt_table *table)
{
    /* Fails only when the counter is full: then it is readable already. */
    (void)!eventfd_write(table->event_fd, 1);
}

static int compare_domains(const void *a, const void *b)
{
    const struct libvirt_domain *x = a, *y = b;

    return uuid_compare(x->uuid, y->uuid);
}

/* The arrival is not compared: it belongs to the start number. */
static bool is_same_domain(const struct libvirt_domain *a, const struct libvirt_domain *b)
{
    return uuid_compare(a->uuid, b->uuid) == 0 && strcmp(a->name, b->name) == 0 &&
           a->defined == b->defined && a->vcpus == b->vcpus && a->start_number == b->start_number;
}

struct search {
    const struct libvirt_domain *domains;
    const unsigned char *uuid;
};

static bool is_before(size_t index, const void *userdata)
{
    const struct search *search = userdata;

    return uuid_compare(search->domains[index].uuid, search->uuid) < 0;
}

/* The index at which the domain is, or would be inserted. Under the lock. */
static size_t find_index(const struct libvirt_table *table, const uuid_t uuid, bool *ret_present)
{
    size_t index = lower_bound(table->n, is_before, &(struct search){table->domains, uuid});

    *ret_present = index < table->n && uuid_compare(table->domains[index].uuid, uuid) == 0;
    return index;
}

void libvirt_table_replace(struct libvirt_table *table, struct libvirt_domain *domains, size_t n)
{
    struct libvirt_domain *old;
    bool same;

    qsort(domains, n, sizeof(*domains), compare_domains);
    pthread_mutex_lock(&table->lock);
    same = table->n == n;
    for (size_t i = 0; same && i < n; i++)
        same = is_same_domain(&table->domains[i], &domains[i]);
    old = table->domains;
    table->domains = domains;
    table->n = table->room = n;
    pthread_mutex_unlock(&table->lock);
    free(old);
    if (!same)
        signal_change(table);
}

/* Under the lock. */
static bool make_room(struct libvirt_table *table)
{
    size_t room = 2 * table->room + 16;
    struct libvirt_domain *grown;

    if (table->n < table->room)
        return true;
    grown = realloc(table->domains, room * sizeof(*grown));
    if (!grown)
        return false;
    table->domains = grown;
    table->room = room;
    return true;
}

void libvirt_table_put(struct libvirt_table *table, const struct libvirt_domain *domain)
{
    bool present, change = false;
    size_t i;

    pthread_mutex_lock(&table->lock);
    i = find_index(table, domain->uuid, &present);
    if (present) {
        change = !is_same_domain(&table->domains[i], domain);
        table->domains[i] = *domain;
    } else if (make_room(table)) {
        memmove(&table->domains[i + 1], &table->domains[i], (table->n - i) * sizeof(*domain));
        table->domains[i] = *domain;
        table->n++;
        change = true;
    }
    pthread_mutex_unlock(&table->lock);
    if (change)
        signal_change(table);
}

void libvirt_table_remove(struct libvirt_table *table, const uuid_t uuid)
{
    bool present;
    size_t i;

    pthread_mutex_lock(&table->lock);
    i = find_index(table, uuid, &present);
    if (present) {
        table->n--;
        memmove(&table->domains[i], &table->domains[i + 1],
                (table->n - i) * sizeof(*table->domains));
    }
    pthread_mutex_unlock(&table->lock);
    if (present)
        signal_change(table);
}

bool libvirt_table_arrival(struct libvirt_table *table, const uuid_t uuid, unsigned start_number,
                           struct vm_arrival *ret)
{
    bool present;
    size_t i;

    pthread_mutex_lock(&table->lock);
    i = find_index(table, uuid, &present);
    present = present && table->domains[i].start_number == start_number;
    if (present)
        *ret = table->domains[i].arrival;
    pthread_mutex_unlock(&table->lock);
    return present;
}

void libvirt_table_forget_starts(struct libvirt_table *table)
{
    pthread_mutex_lock(&table->lock);
    for (size_t i = 0; i < table->n; i++)
        table->domains[i].start_number = 0;
    pthread_mutex_unlock(&table->lock);
}

int libvirt_table_copy(struct libvirt_table *table, struct libvirt_domain **ret, size_t *ret_n)
{
    struct libvirt_domain *copy = NULL;
    eventfd_t count;
    size_t n;

    (void)!eventfd_read(table->event_fd, &count);
    pthread_mutex_lock(&table->lock);
    n = table->n;
    if (n > 0) {
        copy = malloc(n * sizeof(*copy));
        if (copy)
            memcpy(copy, table->domains, n * sizeof(*copy));
    }
    pthread_mutex_unlock(&table->lock);
    if (n > 0 && !copy)
        return -ENOMEM;
    *ret = copy;
    *ret_n = n;
    return 0;
}
