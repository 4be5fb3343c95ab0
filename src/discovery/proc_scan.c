/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/proc_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "discovery/process.h"
#include "discovery/vm_group.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/log_quota.h"
#include "util/macros.h"
#include "util/parse.h"
#include "util/watchdog.h"

/*
 * Where the kernel reports which processes began, changed or ended (the bpf
 * provider of usage), only those are examined, and the cost of a tick grows
 * with the VMs alone. The rest of this comment is about hosts without those reports.
 *
 * There every tick checks every process of the host, so the check must be cheap.
 * But nothing about a PID is final: it may be given to another process
 * between two ticks, and any process may exec QEMU at any time, a second after
 * its start (libvirtd forks, prepares, execs) or after a year (a shell script
 * that ends in "exec qemu-system-x86_64").
 *
 * One readlink of /proc/PID/exe per process and tick answers both questions in
 * nearly all cases: if the executable is the same file as at the last tick, and
 * that file is not QEMU, the process is no VM now. It is a
 * single system call, a fraction of the cost of opening, reading and closing a
 * file of /proc. A process with a new PID or another executable is examined
 * in full.
 *
 * The link leaves four gaps, which are covered so:
 *
 *  - A process that is part of a VM is checked by its start time every tick.
 *  - A QEMU process without a VM is examined every tick: there is hardly ever one, and
 *    a command line is empty for some microseconds during exec.
 *  - The same executable does not prove the same process: the PID may have been
 *    reused within one tick by another copy of the program (or by another
 *    kernel thread: those have no executable).
 *  - The control group of a helper may be set after its start: libvirt starts
 *    virtiofsd and swtpm first, and moves them to the VM's group later.
 *
 * For the last two, processes that are part of no VM are examined again in their first
 * ticks, and after that rarely, another part of them each tick. So are those that run
 * QEMU for an owner who is not trusted.
 */

#define YOUNG_SCANS 8
#define EXAMINE_EVERY_SCANS 16

/* virtiofsd is two processes, and a VM may have two shares. */
#define HELPERS_PER_VM 4

struct entry {
    uint64_t executable; /* hash of the link's target */
    unsigned scans;      /* how many times the process was seen, counted to YOUNG_SCANS */
    ssize_t borrowed;    /* index of the known process that this one is a copy of, or -1 */
    bool told;           /* it was logged that the process is refused */
};

/* Two parallel arrays, sorted by PID. The next list borrows unchanged processes from the known one;
 * the list that is freed leaves the borrowed processes to the other. */
struct process_list {
    struct process *processes;
    struct entry *entries;
    size_t n;
    size_t n_parts;  /* processes that are parts of VMs */
    size_t n_former; /* of these, those that were the same part before */
};

struct proc_scan {
    DIR *proc;
    struct proc_scan_config config;
    struct process_list known;
    unsigned scans;
    struct log_quota refusals;
    char *shared_path; /* the last one that was logged, or NULL */
};

/* The target of the link /proc/PID/exe. */
struct executable {
    char path[PATH_MAX];
    bool unreadable; /* a process of another user, while the daemon is not root */
    uint64_t hash;
};

static void process_list_deinit(struct process_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        process_deinit(&list->processes[i]);
    free(list->processes);
    free(list->entries);
    *list = (struct process_list){0};
}

static int process_list_init(struct process_list *list, size_t n)
{
    *list = (struct process_list){
        .processes = calloc(n + 1, sizeof(*list->processes)),
        .entries = calloc(n + 1, sizeof(*list->entries)),
    };
    if (list->processes && list->entries)
        return 0;
    process_list_deinit(list);
    return -ENOMEM;
}

/* The next list takes the place of the known one. */
static void process_list_replace(struct process_list *known, struct process_list *next)
{
    for (size_t i = 0; i < next->n; i++)
        if (next->entries[i].borrowed >= 0)
            known->processes[next->entries[i].borrowed] = (struct process){0};
    process_list_deinit(known);
    *known = *next;
}

/* Frees a next list that could not be finished. */
static void process_list_discard(struct process_list *next)
{
    for (size_t i = 0; i < next->n; i++)
        if (next->entries[i].borrowed >= 0)
            next->processes[i] = (struct process){0};
    process_list_deinit(next);
}

static uint64_t hash_text(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* Kernel threads and zombies have no executable: their path is empty.
 * @return false when there is no such process */
static bool read_executable(int proc_fd, pid_t pid, struct executable *ret)
{
    char path[32];
    ssize_t length;

    snprintf(path, sizeof(path), "%d/exe", pid);
    length = readlinkat(proc_fd, path, ret->path, sizeof(ret->path) - 1);
    if (length < 0 && errno != ENOENT && errno != EACCES && errno != EPERM)
        return false;
    ret->unreadable = length < 0 && errno != ENOENT;
    ret->path[length > 0 ? length : 0] = '\0';
    ret->hash = hash_text(ret->path);
    return true;
}

static int compare_pids(const void *a, const void *b)
{
    const pid_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static int add_pid(pid_t **pids, size_t *n, size_t *size, pid_t pid)
{
    if (*n == *size) {
        size_t grown_size = *size > 0 ? 2 * *size : 1024;
        pid_t *grown = realloc(*pids, grown_size * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        *pids = grown;
        *size = grown_size;
    }
    (*pids)[(*n)++] = pid;
    return 0;
}

/* Sorts PIDs and drops the second of two. @return how many are left */
static size_t sort_pids(pid_t *pids, size_t n)
{
    size_t n_unique = 0;

    if (n > 0)
        qsort(pids, n, sizeof(*pids), compare_pids);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || pids[i] != pids[n_unique - 1])
            pids[n_unique++] = pids[i];
    return n_unique;
}

/* All PIDs, sorted, each once (the kernel's order may shift while we read). */
static int list_all(DIR *proc, pid_t **ret, size_t *ret_n)
{
    _cleanup_free_ pid_t *pids = NULL;
    size_t n = 0, size = 0;

    rewinddir(proc);
    for (;;) {
        struct dirent *entry;
        uint64_t pid;
        int r;

        errno = 0;
        entry = readdir(proc);
        if (!entry && errno != 0)
            return -errno;
        if (!entry)
            break;
        if (parse_u64(entry->d_name, strlen(entry->d_name), &pid) < 0 || pid == 0 || pid > INT_MAX)
            continue;
        r = add_pid(&pids, &n, &size, (pid_t)pid);
        if (r < 0)
            return r;
    }
    *ret_n = sort_pids(pids, n);
    *ret = TAKE_PTR(pids);
    return 0;
}

/* The PIDs that changed and those that belong to VMs, sorted, each once. */
static int list_few(const struct process_list *known, const pid_t *changed, size_t n_changed,
                    pid_t **ret, size_t *ret_n)
{
    pid_t *pids = calloc(n_changed + known->n + 1, sizeof(*pids));
    size_t n = n_changed;

    if (!pids)
        return -ENOMEM;
    if (n_changed > 0)
        memcpy(pids, changed, n_changed * sizeof(*pids));
    for (size_t i = 0; i < known->n; i++)
        if (known->processes[i].kind != PROCESS_OTHER)
            pids[n++] = known->processes[i].id.pid;
    *ret_n = sort_pids(pids, n);
    *ret = pids;
    return 0;
}

static struct process_rules rules_of(const struct proc_scan *scan)
{
    return (struct process_rules){
        .owners = &scan->config.owners,
        .vcpus_max = scan->config.vcpus_max,
    };
}

/* Whether the known facts about a process still hold. Its executable is known to be unchanged; the
 * vCPUs of a VM are counted anew here. */
static bool is_settled(const struct proc_scan *scan, struct process *process,
                       const struct entry *entry, const char *executable)
{
    const struct process_rules rules = rules_of(scan);
    bool due = (scan->scans + (unsigned)process->id.pid) % EXAMINE_EVERY_SCANS == 0;

    /* A QEMU process stays the same VM, and reading its command line is expensive. */
    if (process->kind == PROCESS_QEMU)
        return process_update_qemu(dirfd(scan->proc), process, &rules, due);
    if (due || entry->scans < YOUNG_SCANS || (path_is_qemu(executable) && !process->refused))
        return false;
    return process->kind == PROCESS_OTHER || process_lives(dirfd(scan->proc), &process->id);
}

/* How many processes of that kind an owner has as VMs or their helpers, this one left out. Of the
 * known list those count that the next one does not have yet. */
static size_t count_accepted(const struct process_list *known, const struct process_list *next,
                             const struct process *process, enum process_kind kind)
{
    const struct process_list *lists[] = {next, known};
    size_t n = 0;

    for (size_t list = 0; list < ARRAY_SIZE(lists); list++)
        for (size_t i = 0; i < lists[list]->n; i++) {
            const struct process *other = &lists[list]->processes[i];

            n += other->kind == kind && other->untrusted == process->untrusted &&
                 (lists[list] == next || other->id.pid > process->id.pid);
        }
    return n;
}

/* Whether the process of an owner who is not trusted may be part of a VM. */
static bool has_room(const struct proc_scan *scan, const struct process_list *next,
                     const struct process *process, const char *executable)
{
    unsigned room = scan->config.untrusted_vms;

    if (room == 0)
        return false;
    if (path_is_qemu(executable))
        return count_accepted(&scan->known, next, process, PROCESS_QEMU) < room;
    return count_accepted(&scan->known, next, process, PROCESS_HELPER) < room * HELPERS_PER_VM;
}

/* Once for each process, and not more than the log can take. */
static bool tell_refusal(struct proc_scan *scan, const struct process *process,
                         const char *executable)
{
    uint64_t left_out;

    if (log_quota_take(&scan->refusals, now_ns(), &left_out))
        log_warning("a process under the name of a VM's program is no VM's: its owner is not "
                    "trusted, and it counts to the host",
                    F_UINT("uid", process->untrusted), F_INT("pid", process->id.pid),
                    F_STRING("executable", executable), F_UINT("left_out", left_out));
    return true;
}

/* Reads what a process is. A process that was a VM before stays that VM. */
static int examine(struct proc_scan *scan, pid_t pid, const struct executable *executable,
                   const struct process *old, const struct process_list *next, struct process *ret)
{
    const char *path = executable->unreadable ? NULL : executable->path;
    struct process_rules rules = rules_of(scan);
    int r = process_examine(dirfd(scan->proc), pid, path, &rules, ret);

    if (r > 0 && ret->refused && has_room(scan, next, ret, path)) {
        process_deinit(ret);
        rules.accept_untrusted = true;
        r = process_examine(dirfd(scan->proc), pid, path, &rules, ret);
    }
    if (r > 0 && old && old->id.start_ticks == ret->id.start_ticks && is_same_vm(old, ret))
        uuid_copy(ret->uuid, old->uuid);
    return r;
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Whether a process examined anew is the same part of a VM as before. Of a QEMU process this is not
 * known: its command line may be another one. */
static bool is_same_part(const struct process *a, const struct process *b)
{
    return a->kind == b->kind && a->kind != PROCESS_QEMU &&
           a->id.start_ticks == b->id.start_ticks && a->untrusted == b->untrusted &&
           a->served == b->served && a->private_machine == b->private_machine &&
           is_same_text(a->machine, b->machine) && is_same_text(a->socket, b->socket);
}

/* Counts the process that the next list has got. */
static void count_part(struct process_list *next, bool same)
{
    if (next->processes[next->n - 1].kind == PROCESS_OTHER)
        return;
    next->n_parts++;
    next->n_former += same;
}

/* Takes an unchanged process over into the next list. */
static void borrow_process(const struct process_list *known, size_t index,
                           struct process_list *next)
{
    next->processes[next->n] = known->processes[index];
    next->entries[next->n] = known->entries[index];
    next->entries[next->n].borrowed = (ssize_t)index;
    next->n++;
    count_part(next, true);
}

/* Adds a process to the next list.
 * @param known    its index in the known list, or -1
 * @param changed  the kernel reported a change: the process must be examined */
static int add_process(struct proc_scan *scan, pid_t pid, ssize_t known, bool changed,
                       struct process_list *next)
{
    struct process *old = known >= 0 ? &scan->known.processes[known] : NULL;
    struct entry *entry = &next->entries[next->n];
    unsigned scans = 0, vcpus = old ? old->vcpus : 0;
    struct executable executable;
    struct process *process;
    bool is_same, told;
    int r;

    if (!read_executable(dirfd(scan->proc), pid, &executable))
        return 0;
    if (old && scan->known.entries[known].executable == executable.hash) {
        scans = scan->known.entries[known].scans;
        if (!changed && is_settled(scan, old, &scan->known.entries[known], executable.path)) {
            borrow_process(&scan->known, (size_t)known, next);
            entry->scans += scans < YOUNG_SCANS;
            next->n_former -= old->vcpus != vcpus;
            return 0;
        }
    }
    process = &next->processes[next->n];
    r = examine(scan, pid, &executable, old, next, process);
    if (r <= 0)
        return r;
    is_same = old && process->id.start_ticks == old->id.start_ticks;
    told = is_same && scan->known.entries[known].told;
    *entry = (struct entry){
        .executable = executable.hash,
        .scans = !is_same              ? 1
                 : scans < YOUNG_SCANS ? scans + 1
                                       : scans,
        .borrowed = -1,
        .told = told || (process->refused && tell_refusal(scan, process, executable.path)),
    };
    next->n++;
    count_part(next, old && is_same_part(old, &next->processes[next->n - 1]));
    return 0;
}

static int add_processes(struct proc_scan *scan, const struct process_changes *changes,
                         const pid_t *changed, const pid_t *pids, size_t n,
                         struct process_list *next)
{
    size_t old = 0;

    for (size_t i = 0; i < n; i++) {
        bool known, is_changed;
        int r;

        watchdog_feed();
        while (old < scan->known.n && scan->known.processes[old].id.pid < pids[i])
            old++;
        known = old < scan->known.n && scan->known.processes[old].id.pid == pids[i];
        is_changed = changes->n > 0 &&
                     bsearch(&pids[i], changed, changes->n, sizeof(*changed), compare_pids);
        if (!changes->all && !is_changed) {
            borrow_process(&scan->known, old, next);
            continue;
        }
        r = add_process(scan, pids[i], known ? (ssize_t)old : -1, is_changed, next);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A socket, or a control group, that QEMU processes of several VMs have. */
static void tell_shared_path(struct proc_scan *scan, const char *path)
{
    uint64_t left_out;

    if (!path || (scan->shared_path && strcmp(scan->shared_path, path) == 0))
        return;
    free(scan->shared_path);
    scan->shared_path = strdup(path);
    if (log_quota_take(&scan->refusals, now_ns(), &left_out))
        log_warning("several VMs have one socket or control group: what serves there counts to "
                    "none of them",
                    F_STRING("path", path), F_UINT("left_out", left_out));
}

static int scan_processes(struct proc_scan *scan, const struct process_changes *changes,
                          const struct vm_domains *domains, struct process_list *next)
{
    _cleanup_free_ pid_t *pids = NULL, *changed = NULL;
    size_t n = 0;
    int r;

    if (changes->n > 0) {
        changed = malloc(changes->n * sizeof(*changed));
        if (!changed)
            return -ENOMEM;
        memcpy(changed, changes->pids, changes->n * sizeof(*changed));
        qsort(changed, changes->n, sizeof(*changed), compare_pids);
    }
    r = changes->all ? list_all(scan->proc, &pids, &n)
                     : list_few(&scan->known, changed, changes->n, &pids, &n);
    if (r < 0)
        return r;
    r = process_list_init(next, n);
    if (r < 0)
        return r;
    r = add_processes(scan, changes, changed, pids, n, next);
    if (r < 0)
        return r;
    return vm_uuids_assign(&scan->config.spaces, next->processes, next->n, domains);
}

int proc_scan_refresh(struct proc_scan *scan, const struct process_changes *changes,
                      const struct vm_domains *domains)
{
    struct process_list next = {0};
    int r = scan_processes(scan, changes, domains, &next);
    bool same;

    if (r < 0) {
        process_list_discard(&next);
        return r;
    }
    same = next.n_former == next.n_parts && next.n_former == scan->known.n_parts;
    process_list_replace(&scan->known, &next);
    scan->scans++;
    return !same;
}

int proc_scan_list_vms(struct proc_scan *scan, struct vm_table *ret)
{
    const char *shared_path;
    int r = vm_group_processes(scan->known.processes, scan->known.n, ret, &shared_path);

    if (r == 0)
        tell_shared_path(scan, shared_path);
    return r;
}

int proc_scan_new(const struct proc_scan_config *config, struct proc_scan **ret)
{
    _cleanup_closedir_ DIR *proc = opendir(config->proc_root);
    struct proc_scan *scan;

    if (!proc)
        return -errno;
    scan = calloc(1, sizeof(*scan));
    if (!scan)
        return -ENOMEM;
    scan->proc = TAKE_PTR(proc);
    scan->config = *config;
    *ret = scan;
    return 0;
}

struct proc_scan *proc_scan_free(struct proc_scan *scan)
{
    if (!scan)
        return NULL;
    process_list_deinit(&scan->known);
    free(scan->shared_path);
    closedir(scan->proc);
    free(scan);
    return NULL;
}
