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
#include "util/file.h"
#include "util/parse.h"

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
 * ticks, and after that rarely, another part of them each tick.
 */

#define YOUNG_SCANS 8
#define EXAMINE_EVERY_SCANS 16

struct entry {
    uint64_t executable; /* hash of the link's target */
    unsigned scans;      /* how many times the process was seen, counted to YOUNG_SCANS */
    ssize_t borrowed;    /* index of the known process that this one is a copy of, or -1 */
};

/* Two parallel arrays, sorted by PID. The next list borrows unchanged processes from the known one;
 * the list that is freed leaves the borrowed processes to the other. */
struct process_list {
    struct process *processes;
    struct entry *entries;
    size_t n;
};

struct proc_scan {
    DIR *proc;
    struct vm_uuid_spaces spaces;
    struct process_list known;
    unsigned scans;
};

/* The target of the link /proc/PID/exe. It may be read of one's own processes, or with a
 * capability with which one may as well write to them. Else it is the process' name (comm), which
 * the kernel sets to that of the file at each exec, cut to 15 bytes. */
struct executable {
    char path[PATH_MAX];
    bool unreadable; /* the path is only the process' name */
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

static ssize_t read_comm(int proc_fd, pid_t pid, struct executable *ret)
{
    char path[32];
    ssize_t length;

    snprintf(path, sizeof(path), "%d/comm", pid);
    length = read_file(proc_fd, path, ret->path, sizeof(ret->path));
    return length > 0 ? length - 1 : length; /* without its newline */
}

/* Kernel threads and zombies have no executable: their path is empty.
 * @return false when there is no such process */
static bool read_executable(int proc_fd, pid_t pid, struct executable *ret)
{
    char path[32];
    ssize_t length;

    snprintf(path, sizeof(path), "%d/exe", pid);
    length = readlinkat(proc_fd, path, ret->path, sizeof(ret->path) - 1);
    ret->unreadable = length < 0 && (errno == EACCES || errno == EPERM);
    if (length < 0 && errno == ENOENT)
        length = 0;
    if (ret->unreadable)
        length = read_comm(proc_fd, pid, ret);
    if (length < 0)
        return false;
    ret->path[length] = '\0';
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

/* Whether the known facts about a process still hold. Its executable is known to be unchanged; the
 * vCPUs of a VM are counted anew here. */
static bool is_settled(const struct proc_scan *scan, struct process *process,
                       const struct entry *entry, const char *executable)
{
    bool due = (scan->scans + (unsigned)process->id.pid) % EXAMINE_EVERY_SCANS == 0;

    /* A QEMU process stays the same VM, and reading its command line is expensive. */
    if (process->kind == PROCESS_QEMU)
        return process_update_qemu(dirfd(scan->proc), process, due);
    if (due || entry->scans < YOUNG_SCANS || path_is_qemu(executable))
        return false;
    return process->kind == PROCESS_OTHER || process_lives(dirfd(scan->proc), &process->id);
}

/* Reads what a process is. A process that was a VM before stays that VM. */
static int examine(struct proc_scan *scan, pid_t pid, const struct executable *executable,
                   const struct process *old, struct process *ret)
{
    int r = process_examine(dirfd(scan->proc), pid,
                            executable->unreadable ? NULL : executable->path, ret);

    if (r > 0 && old && old->id.start_ticks == ret->id.start_ticks && old->kind == PROCESS_QEMU &&
        ret->kind == PROCESS_QEMU && uuid_is_null(ret->cmdline->uuid))
        uuid_copy(ret->uuid, old->uuid);
    return r;
}

/* Takes an unchanged process over into the next list. */
static void borrow_process(const struct process_list *known, size_t index,
                           struct process_list *next)
{
    next->processes[next->n] = known->processes[index];
    next->entries[next->n] = known->entries[index];
    next->entries[next->n].borrowed = (ssize_t)index;
    next->n++;
}

/* Adds a process to the next list.
 * @param known    its index in the known list, or -1
 * @param changed  the kernel reported a change: the process must be examined */
static int add_process(struct proc_scan *scan, pid_t pid, ssize_t known, bool changed,
                       struct process_list *next)
{
    struct process *old = known >= 0 ? &scan->known.processes[known] : NULL;
    struct entry *entry = &next->entries[next->n];
    struct executable executable;
    unsigned scans = 0;
    int r;

    if (!read_executable(dirfd(scan->proc), pid, &executable))
        return 0;
    if (old && scan->known.entries[known].executable == executable.hash) {
        scans = scan->known.entries[known].scans;
        if (!changed && is_settled(scan, old, &scan->known.entries[known], executable.path)) {
            borrow_process(&scan->known, (size_t)known, next);
            entry->scans += scans < YOUNG_SCANS;
            return 0;
        }
    }
    r = examine(scan, pid, &executable, old, &next->processes[next->n]);
    if (r <= 0)
        return r;
    if (old && next->processes[next->n].id.start_ticks != old->id.start_ticks)
        scans = 0;
    *entry = (struct entry){
        .executable = executable.hash,
        .scans = scans < YOUNG_SCANS ? scans + 1 : scans,
        .borrowed = -1,
    };
    next->n++;
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

static int scan_processes(struct proc_scan *scan, const struct process_changes *changes,
                          struct process_list *next, struct vm_table *ret)
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
    r = vm_uuids_assign(&scan->spaces, next->processes, next->n);
    if (r < 0)
        return r;
    return vm_group_processes(next->processes, next->n, ret);
}

int proc_scan_refresh(struct proc_scan *scan, const struct process_changes *changes,
                      struct vm_table *ret)
{
    struct process_list next = {0};
    int r = scan_processes(scan, changes, &next, ret);

    if (r < 0) {
        process_list_discard(&next);
        return r;
    }
    process_list_replace(&scan->known, &next);
    scan->scans++;
    return 0;
}

int proc_scan_new(const char *proc_root, const struct vm_uuid_spaces *spaces,
                  struct proc_scan **ret)
{
    _cleanup_closedir_ DIR *proc = opendir(proc_root);
    struct proc_scan *scan;

    if (!proc)
        return -errno;
    scan = calloc(1, sizeof(*scan));
    if (!scan)
        return -ENOMEM;
    scan->proc = TAKE_PTR(proc);
    scan->spaces = *spaces;
    *ret = scan;
    return 0;
}

struct proc_scan *proc_scan_free(struct proc_scan *scan)
{
    if (!scan)
        return NULL;
    process_list_deinit(&scan->known);
    closedir(scan->proc);
    free(scan);
    return NULL;
}
