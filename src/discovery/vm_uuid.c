/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/vm_uuid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/*
 * A VM's totals are kept under its UUID, so the UUID must be the same each time the
 * VM starts, and never that of another VM:
 *
 *  - A UUID on the command line is taken as it is. Several processes with
 *    the same UUID are one VM.
 *  - Otherwise it is derived (RFC 4122, version 5) from the machine's id and the
 *    VM's -id, which a host has once, else its -name.
 *  - Names need not be unique. Of two living processes with one name, the older
 *    keeps the name's UUID; the other's is derived from
 *    its PID and start time as well, and stays so even when
 *    the older process ends: a counter must not move to another VM.
 *  - Without id and name, PID and start time identify the VM. They
 *    may repeat after a reboot, so the boot's id replaces the machine's.
 *  - A child of a QEMU process with the same command line belongs to that VM: QEMU forks to go to
 * the background, to run a network script or to wait for its own end (-run-with async-teardown).
 */

struct newcomer {
    struct process *process;
    struct process *ancestor; /* NULL, or the first process of the same VM */
    uuid_t base;
};

static int compare_pids(const void *key, const void *element)
{
    const pid_t *pid = key;
    const struct process *process = element;

    return (*pid > process->id.pid) - (*pid < process->id.pid);
}

static bool is_same_vm(const struct process *a, const struct process *b)
{
    return a->kind == PROCESS_QEMU && b->kind == PROCESS_QEMU &&
           strcmp(a->cmdline->id, b->cmdline->id) == 0 &&
           strcmp(a->cmdline->name, b->cmdline->name) == 0 &&
           uuid_compare(a->cmdline->uuid, b->cmdline->uuid) == 0;
}

static int compare_ages(const struct process_id *a, const struct process_id *b)
{
    if (a->start_ticks != b->start_ticks)
        return a->start_ticks < b->start_ticks ? -1 : 1;
    return (a->pid > b->pid) - (a->pid < b->pid);
}

/* A parent that is not older than its child is not followed, so that no chain of parents goes in
 * circles. */
static struct process *find_ancestor(struct process *process, struct process *processes, size_t n)
{
    struct process *first = process;

    for (;;) {
        struct process *parent =
            bsearch(&first->parent, processes, n, sizeof(*processes), compare_pids);

        if (!parent || compare_ages(&parent->id, &first->id) >= 0 || !is_same_vm(parent, process))
            return first == process ? NULL : first;
        first = parent;
    }
}

static void derive(const uuid_t space, const struct process *process, bool with_process, uuid_t ret)
{
    const struct qemu_cmdline *cmdline = process->cmdline;
    char text[2 * VM_NAME_MAX];
    int length = 0;

    if (cmdline->id[0] != '\0')
        length = snprintf(text, sizeof(text), "id:%s", cmdline->id);
    else if (cmdline->name[0] != '\0')
        length = snprintf(text, sizeof(text), "name:%s", cmdline->name);
    /* Follows a NUL byte, which no name can contain. */
    if (with_process)
        length += snprintf(text + length, sizeof(text) - (size_t)length, "%cpid:%d start:%" PRIu64,
                           '\0', process->id.pid, process->id.start_ticks);
    uuid_generate_sha1(ret, space, text, (size_t)length);
}

static bool is_named(const struct process *process)
{
    return process->cmdline->id[0] != '\0' || process->cmdline->name[0] != '\0';
}

static int compare_newcomers(const void *a, const void *b)
{
    const struct newcomer *x = a, *y = b;
    int r = uuid_compare(x->base, y->base);

    return r != 0 ? r : compare_ages(&x->process->id, &y->process->id);
}

static int compare_uuids(const void *a, const void *b)
{
    return uuid_compare(a, b);
}

/* Splits the QEMU processes into newcomers and the UUIDs of the others, sorted. */
static void sort_out(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n,
                     struct newcomer *newcomers, uuid_t *used)
{
    size_t n_newcomers = 0, n_used = 0;

    for (size_t i = 0; i < n; i++) {
        struct process *process = &processes[i];
        struct newcomer *newcomer;

        if (process->kind != PROCESS_QEMU)
            continue;
        if (!uuid_is_null(process->uuid)) {
            uuid_copy(used[n_used++], process->uuid);
            continue;
        }
        newcomer = &newcomers[n_newcomers++];
        newcomer->process = process;
        newcomer->ancestor = find_ancestor(process, processes, n);
        if (!uuid_is_null(process->cmdline->uuid))
            uuid_copy(newcomer->base, process->cmdline->uuid);
        else if (is_named(process))
            derive(spaces->machine, process, false, newcomer->base);
        else
            derive(spaces->boot, process, true, newcomer->base);
    }
    qsort(newcomers, n_newcomers, sizeof(*newcomers), compare_newcomers);
    qsort(used, n_used, sizeof(*used), compare_uuids);
}

/* Whether a derived UUID is taken: by a process known before, or by the one before it in order. */
static bool is_taken(const struct newcomer *newcomer, const uuid_t *previous, const uuid_t *used,
                     size_t n_used)
{
    return (previous && uuid_compare(*previous, newcomer->base) == 0) ||
           (n_used > 0 && bsearch(newcomer->base, used, n_used, sizeof(*used), compare_uuids));
}

int vm_uuids_assign(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n)
{
    _cleanup_free_ struct newcomer *newcomers = NULL;
    _cleanup_free_ uuid_t *used = NULL;
    const uuid_t *previous = NULL;
    size_t n_newcomers = 0, n_used = 0;

    for (size_t i = 0; i < n; i++)
        if (processes[i].kind == PROCESS_QEMU)
            *(uuid_is_null(processes[i].uuid) ? &n_newcomers : &n_used) += 1;
    if (n_newcomers == 0)
        return 0;
    newcomers = calloc(n_newcomers, sizeof(*newcomers));
    used = calloc(n_used + 1, sizeof(*used));
    if (!newcomers || !used)
        return -ENOMEM;
    sort_out(spaces, processes, n, newcomers, used);
    for (size_t i = 0; i < n_newcomers; i++) {
        struct newcomer *newcomer = &newcomers[i];
        struct process *process = newcomer->process;

        if (newcomer->ancestor)
            continue;
        if (uuid_is_null(process->cmdline->uuid) &&
            is_taken(newcomer, previous, (const uuid_t *)used, n_used))
            derive(spaces->boot, process, true, process->uuid);
        else
            uuid_copy(process->uuid, newcomer->base);
        previous = (const uuid_t *)&newcomer->base;
    }
    for (size_t i = 0; i < n_newcomers; i++)
        if (newcomers[i].ancestor)
            uuid_copy(newcomers[i].process->uuid, newcomers[i].ancestor->uuid);
    return 0;
}
