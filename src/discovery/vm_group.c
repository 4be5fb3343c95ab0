/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/vm_group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* Leads from a helper to its VM: the path of a control group or of a socket, and who may go there:
 * whoever is not trusted can neither take a VM's helper by naming its socket, nor lend it one. */
struct link {
    const char *path;
    uint32_t untrusted;        /* the owner, as in struct process */
    const unsigned char *uuid; /* NULL: several VMs name the path */
};

/* A process and the VM it belongs to. */
struct vm_member {
    const unsigned char *uuid;
    const struct process *process;
};

/* The work space of one call; sorted arrays make each look-up logarithmic. */
struct grouping {
    const struct process *processes;
    size_t n_processes;
    struct link *links;
    size_t n_links;
    const char *shared_path; /* of a link that several VMs have, or NULL */
    struct vm_member *members;
    size_t n_members;
};

static void cleanup_grouping(struct grouping *grouping)
{
    free(grouping->links);
    free(grouping->members);
}

static int compare_links(const void *a, const void *b)
{
    const struct link *x = a, *y = b;

    if (x->untrusted != y->untrusted)
        return x->untrusted < y->untrusted ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* By VM; within it QEMU first, then by age. */
static int compare_members(const void *a, const void *b)
{
    const struct vm_member *x = a, *y = b;
    const struct process *p = x->process, *q = y->process;
    int r = uuid_compare(x->uuid, y->uuid);

    if (r != 0)
        return r;
    if ((p->kind == PROCESS_QEMU) != (q->kind == PROCESS_QEMU))
        return p->kind == PROCESS_QEMU ? -1 : 1;
    if (p->id.start_ticks != q->id.start_ticks)
        return p->id.start_ticks < q->id.start_ticks ? -1 : 1;
    return (p->id.pid > q->id.pid) - (p->id.pid < q->id.pid);
}

static int compare_pids(const void *key, const void *element)
{
    const pid_t *pid = key;
    const struct process *process = element;

    return (*pid > process->id.pid) - (*pid < process->id.pid);
}

static int grouping_allocate(struct grouping *grouping)
{
    size_t n_links = 0, n_members = 0;

    for (size_t i = 0; i < grouping->n_processes; i++) {
        const struct process *process = &grouping->processes[i];

        if (process->kind == PROCESS_OTHER)
            continue;
        n_members++;
        if (process->kind == PROCESS_QEMU)
            n_links += (process->machine ? 1 : 0) + process->cmdline->n_sockets;
    }
    grouping->links = calloc(n_links + 1, sizeof(*grouping->links));
    grouping->members = calloc(n_members + 1, sizeof(*grouping->members));
    return grouping->links && grouping->members ? 0 : -ENOMEM;
}

static void add_link(struct grouping *grouping, const char *path, const struct process *qemu)
{
    grouping->links[grouping->n_links++] = (struct link){path, qemu->untrusted, qemu->uuid};
}

/* Leaves one link of each path. */
static void merge_links(struct grouping *grouping)
{
    size_t n = 0;

    for (size_t i = 0; i < grouping->n_links; i++) {
        struct link *link = &grouping->links[i], *last = n > 0 ? &grouping->links[n - 1] : NULL;

        if (!last || compare_links(last, link) != 0) {
            grouping->links[n++] = *link;
        } else if (last->uuid && uuid_compare(last->uuid, link->uuid) != 0) {
            last->uuid = NULL;
            grouping->shared_path = link->path;
        }
    }
    grouping->n_links = n;
}

static void collect_qemus(struct grouping *grouping)
{
    for (size_t i = 0; i < grouping->n_processes; i++) {
        const struct process *process = &grouping->processes[i];

        if (process->kind != PROCESS_QEMU)
            continue;
        grouping->members[grouping->n_members++] = (struct vm_member){process->uuid, process};
        if (process->machine)
            add_link(grouping, process->machine, process);
        for (size_t k = 0; k < process->cmdline->n_sockets; k++)
            add_link(grouping, process->cmdline->sockets[k], process);
    }
    qsort(grouping->links, grouping->n_links, sizeof(*grouping->links), compare_links);
    merge_links(grouping);
}

static const unsigned char *follow_link(const struct grouping *grouping, const char *path,
                                        uint32_t untrusted)
{
    const struct link key = {.path = path, .untrusted = untrusted};
    const struct link *link;

    if (!path || grouping->n_links == 0)
        return NULL;
    link = bsearch(&key, grouping->links, grouping->n_links, sizeof(key), compare_links);
    return link ? link->uuid : NULL;
}

static const unsigned char *find_vm(const struct grouping *grouping, const struct process *process)
{
    const struct process *qemu;
    const unsigned char *uuid;

    if (process->kind == PROCESS_VHOST) {
        qemu = bsearch(&process->served, grouping->processes, grouping->n_processes,
                       sizeof(*process), compare_pids);
        return qemu && qemu->kind == PROCESS_QEMU ? qemu->uuid : NULL;
    }
    uuid = follow_link(grouping, process->machine, process->untrusted);
    return uuid ? uuid : follow_link(grouping, process->socket, process->untrusted);
}

static void collect_helpers(struct grouping *grouping)
{
    for (size_t i = 0; i < grouping->n_processes; i++) {
        const struct process *process = &grouping->processes[i];
        const unsigned char *uuid;

        if (process->kind != PROCESS_HELPER && process->kind != PROCESS_VHOST)
            continue;
        uuid = find_vm(grouping, process);
        if (uuid)
            grouping->members[grouping->n_members++] = (struct vm_member){uuid, process};
    }
    qsort(grouping->members, grouping->n_members, sizeof(*grouping->members), compare_members);
}

static int name_room(const char *prefix, const char *kind)
{
    return (int)(VM_NAME_MAX - 1 - strlen(prefix) - strlen(kind));
}

/* An owner who is not trusted has names of its own: "uid1000/NAME". */
static void name_vm(const struct process *qemu, char *name)
{
    char prefix[16] = "";

    if (qemu->untrusted)
        snprintf(prefix, sizeof(prefix), "uid%" PRIu32 "/", qemu->untrusted);
    if (qemu->cmdline->name[0] != '\0')
        snprintf(name, VM_NAME_MAX, "%s%.*s", prefix, name_room(prefix, ""), qemu->cmdline->name);
    else if (qemu->cmdline->id[0] != '\0')
        snprintf(name, VM_NAME_MAX, "%svm-%.*s", prefix, name_room(prefix, "vm-"),
                 qemu->cmdline->id);
    else
        snprintf(name, VM_NAME_MAX, "%sqemu-%d", prefix, qemu->id.pid);
}

/* The first member is the VM's oldest QEMU process: its command line describes the VM. */
static int make_vm(const struct vm_member *members, size_t n, struct vm *ret)
{
    const struct process *qemu = members[0].process;
    struct vm vm = {
        .manager = qemu->cmdline->manager,
        .trusted = !qemu->untrusted,
        .running = true,
        .vcpus = qemu->vcpus,
        .processes = calloc(n, sizeof(*vm.processes)),
        .n_processes = n,
    };

    if (!vm.processes)
        return -ENOMEM;
    uuid_copy(vm.uuid, members[0].uuid);
    name_vm(qemu, vm.name);
    for (size_t i = 0; i < n; i++)
        vm.processes[i] = (struct vm_process){
            members[i].process->id,
            members[i].process->kind == PROCESS_QEMU ? VM_PROCESS_QEMU : VM_PROCESS_HELPER,
        };
    *ret = vm;
    return 0;
}

static void note_sockets(const struct process *qemu, struct vm_excess *excess)
{
    if (qemu->cmdline->n_sockets_left_out == 0)
        return;
    excess->sockets += qemu->cmdline->n_sockets_left_out;
    excess->pid = qemu->id.pid;
}

/* By the age of their oldest QEMU process. */
static int compare_vm_ages(const void *a, const void *b)
{
    const struct process_id *x = a, *y = b;

    if (x->start_ticks != y->start_ticks)
        return x->start_ticks < y->start_ticks ? -1 : 1;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Leaves out the youngest VMs. */
static int bound_vms(struct vm_table *table, size_t max)
{
    _cleanup_free_ struct process_id *ages = NULL;
    size_t n = 0;

    if (table->n <= max)
        return 0;
    ages = calloc(table->n, sizeof(*ages));
    if (!ages)
        return -ENOMEM;
    for (size_t i = 0; i < table->n; i++)
        ages[i] = table->vms[i].processes[0].id;
    qsort(ages, table->n, sizeof(*ages), compare_vm_ages);
    for (size_t i = 0; i < table->n; i++) {
        struct vm *vm = &table->vms[i];

        if (compare_vm_ages(&vm->processes[0].id, &ages[max]) < 0)
            table->vms[n++] = *vm;
        else
            free(vm->processes);
    }
    table->excess.vms = table->n - n;
    table->n = n;
    return 0;
}

int vm_group_processes(const struct process *processes, size_t n, struct vm_table *ret,
                       const char **ret_shared_path)
{
    _cleanup_(cleanup_grouping) struct grouping grouping = {
        .processes = processes,
        .n_processes = n,
    };
    _cleanup_(vm_table_deinit) struct vm_table table = {0};
    size_t n_qemus;
    int r = grouping_allocate(&grouping);

    if (r < 0)
        return r;
    collect_qemus(&grouping);
    n_qemus = grouping.n_members;
    collect_helpers(&grouping);
    table.vms = calloc(n_qemus + 1, sizeof(*table.vms));
    if (!table.vms)
        return -ENOMEM;
    for (size_t begin = 0, end = 0; begin < grouping.n_members; begin = end) {
        const struct vm_member *members = grouping.members;

        while (end < grouping.n_members &&
               uuid_compare(members[end].uuid, members[begin].uuid) == 0)
            end++;
        r = make_vm(members + begin, end - begin, &table.vms[table.n]);
        if (r < 0)
            return r;
        note_sockets(members[begin].process, &table.excess);
        table.n++;
    }
    r = bound_vms(&table, VMS_MAX);
    if (r < 0)
        return r;
    *ret = table;
    *ret_shared_path = grouping.shared_path;
    table = (struct vm_table){0};
    return 0;
}
