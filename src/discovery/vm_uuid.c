/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/vm_uuid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/log.h"

/*
 * A VM's totals are kept under its UUID, so the UUID must be the same each time the
 * VM starts, and never that of another VM:
 *
 *  - A UUID on the command line is taken as it is.
 *  - Otherwise it is derived (RFC 4122, version 5) from the machine's id and the
 *    VM's -id, which a host has once, else its -name.
 *  - For an owner who is not trusted, it is derived from what the command line says and
 *    the owner's uid: what such a process says never meets what is another's.
 *  - Neither names nor UUIDs need be unique: VMs are cloned and restored. Of two living
 *    processes with one, the older keeps the UUID; the other's is derived from
 *    its PID and start time as well, and stays so even when
 *    the older process ends: a counter must not move to another VM.
 *  - But where libvirt runs one of them for the domain of that UUID, this one has it, as
 *    soon as libvirt has told of the domain.
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

bool is_same_vm(const struct process *a, const struct process *b)
{
    return a->kind == PROCESS_QEMU && b->kind == PROCESS_QEMU && a->untrusted == b->untrusted &&
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

/* Parts of a text, each ended by a NUL byte, which no name can contain. */
struct parts {
    char text[3 * VM_NAME_MAX];
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void add_part(struct parts *parts, const char *format,
                                                           ...)
{
    size_t room = sizeof(parts->text) - parts->length;
    va_list arguments;

    va_start(arguments, format);
    parts->length += (size_t)vsnprintf(parts->text + parts->length, room, format, arguments) + 1;
    va_end(arguments);
}

/* What the command line says the VM is, if anything. */
static void add_claim(struct parts *parts, const struct process *process)
{
    const struct qemu_cmdline *cmdline = process->cmdline;
    char uuid[UUID_TEXT_SIZE];

    uuid_unparse_lower(cmdline->uuid, uuid);
    if (process->untrusted)
        add_part(parts, "uid:%" PRIu32, process->untrusted);
    if (process->untrusted && !uuid_is_null(cmdline->uuid))
        add_part(parts, "uuid:%s", uuid);
    else if (cmdline->id[0] != '\0')
        add_part(parts, "id:%s", cmdline->id);
    else if (cmdline->name[0] != '\0')
        add_part(parts, "name:%s", cmdline->name);
}

static void derive(const uuid_t space, const struct process *process, bool with_process, uuid_t ret)
{
    struct parts parts = {.length = 0};

    add_claim(&parts, process);
    if (with_process)
        add_part(&parts, "pid:%d start:%" PRIu64, process->id.pid, process->id.start_ticks);
    uuid_generate_sha1(ret, space, parts.text, parts.length - 1);
}

static bool is_named(const struct process *process)
{
    return process->cmdline->id[0] != '\0' || process->cmdline->name[0] != '\0' ||
           !uuid_is_null(process->cmdline->uuid);
}

/* The UUID of its VM, if no other VM has it. */
static void find_base(const struct vm_uuid_spaces *spaces, const struct process *process,
                      uuid_t ret)
{
    if (!process->untrusted && !uuid_is_null(process->cmdline->uuid))
        uuid_copy(ret, process->cmdline->uuid);
    else if (is_named(process))
        derive(spaces->machine, process, false, ret);
    else
        derive(spaces->boot, process, true, ret);
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
        find_base(spaces, process, newcomer->base);
    }
    qsort(newcomers, n_newcomers, sizeof(*newcomers), compare_newcomers);
    qsort(used, n_used, sizeof(*used), compare_uuids);
}

/* Whether a UUID is taken: by a process known before, or by the one before it in order. */
static bool is_taken(const struct newcomer *newcomer, const uuid_t *previous, const uuid_t *used,
                     size_t n_used)
{
    return (previous && uuid_compare(*previous, newcomer->base) == 0) ||
           (n_used > 0 && bsearch(newcomer->base, used, n_used, sizeof(*used), compare_uuids));
}

/* Whether the process says what the UUID of its VM is, and has another one. */
static bool is_displaced(const struct process *process)
{
    return process->kind == PROCESS_QEMU && !process->untrusted &&
           !uuid_is_null(process->cmdline->uuid) &&
           uuid_compare(process->uuid, process->cmdline->uuid) != 0;
}

static void tell_displaced(const struct process *process, const char *reason)
{
    char claimed[UUID_TEXT_SIZE], own[UUID_TEXT_SIZE];

    uuid_unparse_lower(process->cmdline->uuid, claimed);
    uuid_unparse_lower(process->uuid, own);
    log_warning("two VMs have one UUID: one of them is counted under a UUID of its own",
                F_STRING("uuid", claimed), F_INT("pid", process->id.pid),
                F_STRING("name", process->cmdline->name), F_STRING("counted_under", own),
                F_STRING("the_other", reason));
}

/* Takes the UUID from the processes that have it. */
static void displace(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n,
                     const uuid_t uuid)
{
    for (size_t i = 0; i < n; i++) {
        struct process *process = &processes[i], *first;

        if (process->kind != PROCESS_QEMU || uuid_compare(process->uuid, uuid) != 0)
            continue;
        first = find_ancestor(process, processes, n);
        derive(spaces->boot, first ? first : process, true, process->uuid);
        if (!first)
            tell_displaced(process, "libvirt's");
    }
}

/* libvirt may tell of a domain later than another process has taken its UUID. */
static void give_to_domains(const struct vm_uuid_spaces *spaces, struct process *processes,
                            size_t n, const struct vm_domains *domains)
{
    for (size_t i = 0; i < n; i++) {
        struct process *process = &processes[i];

        if (!is_displaced(process) || find_ancestor(process, processes, n) ||
            !domains->have(domains, process->cmdline->uuid, process))
            continue;
        displace(spaces, processes, n, process->cmdline->uuid);
        uuid_copy(process->uuid, process->cmdline->uuid);
    }
    for (size_t i = 0; i < n; i++) {
        const struct process *first =
            is_displaced(&processes[i]) ? find_ancestor(&processes[i], processes, n) : NULL;

        if (first)
            uuid_copy(processes[i].uuid, first->uuid);
    }
}

static int assign_newcomers(const struct vm_uuid_spaces *spaces, struct process *processes,
                            size_t n, size_t n_newcomers, size_t n_used)
{
    _cleanup_free_ struct newcomer *newcomers = calloc(n_newcomers + 1, sizeof(*newcomers));
    _cleanup_free_ uuid_t *used = calloc(n_used + 1, sizeof(*used));
    const uuid_t *previous = NULL;

    if (!newcomers || !used)
        return -ENOMEM;
    sort_out(spaces, processes, n, newcomers, used);
    for (size_t i = 0; i < n_newcomers; i++) {
        struct newcomer *newcomer = &newcomers[i];
        struct process *process = newcomer->process;

        if (newcomer->ancestor)
            continue;
        if (is_taken(newcomer, previous, (const uuid_t *)used, n_used))
            derive(spaces->boot, process, true, process->uuid);
        else
            uuid_copy(process->uuid, newcomer->base);
        if (is_displaced(process))
            tell_displaced(process, "older");
        previous = (const uuid_t *)&newcomer->base;
    }
    for (size_t i = 0; i < n_newcomers; i++)
        if (newcomers[i].ancestor)
            uuid_copy(newcomers[i].process->uuid, newcomers[i].ancestor->uuid);
    return 0;
}

int vm_uuids_assign(const struct vm_uuid_spaces *spaces, struct process *processes, size_t n,
                    const struct vm_domains *domains)
{
    size_t n_newcomers = 0, n_used = 0;
    int r = 0;

    for (size_t i = 0; i < n; i++)
        if (processes[i].kind == PROCESS_QEMU)
            *(uuid_is_null(processes[i].uuid) ? &n_newcomers : &n_used) += 1;
    if (n_newcomers > 0)
        r = assign_newcomers(spaces, processes, n, n_newcomers, n_used);
    if (r == 0 && domains)
        give_to_domains(spaces, processes, n, domains);
    return r;
}
