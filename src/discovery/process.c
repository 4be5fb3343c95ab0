/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "discovery/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "discovery/arguments.h"
#include "discovery/helper_cmdline.h"
#include "host/machine_cgroup.h"
#include "host/proc_text.h"
#include "shared/vm_names.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/parse.h"

/* libvirt's longest command lines have some tens of kilobytes. The part cut off a longer one
 * describes devices. */
#define CMDLINE_MAX (256 * 1024)

void process_deinit(struct process *process)
{
    if (process->cmdline)
        qemu_cmdline_deinit(process->cmdline);
    free(process->cmdline);
    free(process->machine);
    free(process->socket);
    *process = (struct process){0};
}

/* Reads /proc/PID/name; a process that ended meanwhile reads as a negative errno as well. */
static ssize_t read_process_file(int proc_fd, pid_t pid, const char *name, char *buffer,
                                 size_t size)
{
    char path[64];

    snprintf(path, sizeof(path), "%d/%s", pid, name);
    return read_file(proc_fd, path, buffer, size);
}

static int read_stat(int proc_fd, pid_t pid, struct proc_stat *ret)
{
    char text[2048];
    ssize_t length = read_process_file(proc_fd, pid, "stat", text, sizeof(text));

    return length < 0 ? (int)length : parse_proc_stat(text, (size_t)length, ret);
}

static bool is_zombie(const struct proc_stat *stat)
{
    return stat->state == 'Z' || stat->state == 'X';
}

static bool read_same(int proc_fd, const struct process_id *id, struct proc_stat *ret)
{
    return read_stat(proc_fd, id->pid, ret) == 0 && !is_zombie(ret) &&
           ret->start_ticks == id->start_ticks;
}

bool process_lives(int proc_fd, const struct process_id *id)
{
    struct proc_stat stat;

    return read_same(proc_fd, id, &stat);
}

bool comm_is_vcpu(const char *comm)
{
    static const char prefix[] = VCPU_PREFIX;
    const char *number = comm + strlen(prefix);

    return strncmp(comm, prefix, strlen(prefix)) == 0 && strspn(number, "0123456789") > 0 &&
           number[strspn(number, "0123456789")] == '/';
}

/* @return 0 where QEMU does not name its threads */
static unsigned count_vcpu_threads(int proc_fd, pid_t pid)
{
    char path[32];
    _cleanup_close_ int task_fd = -1;
    _cleanup_closedir_ DIR *task = NULL;
    struct dirent *entry;
    unsigned n = 0;

    snprintf(path, sizeof(path), "%d/task", pid);
    task_fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    task = task_fd >= 0 ? fdopendir(task_fd) : NULL;
    if (!task)
        return 0;
    task_fd = -1; /* the stream owns it */
    while ((entry = readdir(task))) {
        char comm_path[sizeof(entry->d_name) + 8], comm[64];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(comm_path, sizeof(comm_path), "%s/comm", entry->d_name);
        if (read_file(dirfd(task), comm_path, comm, sizeof(comm)) > 0)
            n += comm_is_vcpu(comm);
    }
    return n;
}

/* vCPUs come and go while QEMU runs. The command line states their number at the start, when
 * there are no threads yet, and counts for no more than the machine can run. */
static void count_vcpus(int proc_fd, uint64_t threads, const struct process_rules *rules,
                        struct process *process)
{
    unsigned n = count_vcpu_threads(proc_fd, process->id.pid);
    bool is_told = n == 0 || process->untrusted;

    if (n == 0)
        n = process->untrusted ? 1 : process->cmdline->vcpus;
    process->vcpus = is_told && n > rules->vcpus_max ? rules->vcpus_max : n;
    process->threads = threads;
}

bool process_update_qemu(int proc_fd, struct process *process, const struct process_rules *rules,
                         bool recount)
{
    struct proc_stat stat;

    if (!read_same(proc_fd, &process->id, &stat))
        return false;
    if (recount || stat.threads != process->threads)
        count_vcpus(proc_fd, stat.threads, rules, process);
    return true;
}

/* vhost kernel threads are called "vhost-PID" after the process that opened /dev/vhost-*. (Since
 * Linux 6.4 they are threads of that process, and are found with it.) */
static bool vhost_qemu(const char *comm, pid_t *ret)
{
    static const char prefix[] = VHOST_PREFIX;
    uint64_t pid;

    if (strncmp(comm, prefix, strlen(prefix)) != 0)
        return false;
    comm += strlen(prefix);
    if (parse_u64(comm, strlen(comm), &pid) < 0 || pid == 0 || pid > INT32_MAX)
        return false;
    *ret = (pid_t)pid;
    return true;
}

static int read_cmdline(int proc_fd, pid_t pid, char **ret, size_t *ret_length)
{
    _cleanup_free_ char *text = malloc(CMDLINE_MAX);
    ssize_t length;

    if (!text)
        return -ENOMEM;
    length = read_process_file(proc_fd, pid, "cmdline", text, CMDLINE_MAX);
    if (is_shortage((int)length))
        return (int)length;
    *ret_length = length > 0 ? (size_t)length : 0;
    *ret = TAKE_PTR(text);
    return 0;
}

/* The owner whose process it is, if that one is not trusted. The status file tells it, and not the
 * directory's owner: the directory of a process that is not dumpable is root's.
 * @return 0 or a negative errno */
static int read_owner(int proc_fd, pid_t pid, const struct trusted_owners *owners, uint32_t *ret)
{
    char text[4096]; /* the line is one of the first ten */
    ssize_t length = read_process_file(proc_fd, pid, "status", text, sizeof(text));
    struct proc_owner owner;
    int r;

    if (length < 0)
        return (int)length;
    r = parse_proc_owner(text, (size_t)length, &owner);
    if (r == 0)
        *ret = trusted_owners_find_other(owners, &owner);
    return r;
}

/* Copies the path of the VM's control group into process->machine, if it is in one. */
static int read_machine(int proc_fd, struct process *process, enum machine_cgroup_type *ret_type)
{
    struct machine_cgroup cgroup;
    char text[16384];
    ssize_t length = read_process_file(proc_fd, process->id.pid, "cgroup", text, sizeof(text));

    if (is_shortage((int)length))
        return (int)length;
    if (length < 0 || !parse_machine_cgroup(text, (size_t)length, &cgroup))
        return 0;
    process->machine = strndup(cgroup.path, cgroup.length);
    if (!process->machine)
        return -ENOMEM;
    process->private_machine = machine_cgroup_is_private(&cgroup);
    *ret_type = cgroup.type;
    return 0;
}

static bool is_vm_program(const char *executable)
{
    return path_is_qemu(executable) || path_is_helper(executable);
}

static int examine_qemu(const char *text, size_t length, bool in_pod, struct process *process)
{
    struct qemu_cmdline cmdline;
    int r = parse_qemu_cmdline(text, length, &cmdline);

    if (r <= 0)
        return r;
    process->cmdline = malloc(sizeof(cmdline));
    if (!process->cmdline) {
        qemu_cmdline_deinit(&cmdline);
        return -ENOMEM;
    }
    *process->cmdline = cmdline;
    process->kind = PROCESS_QEMU;
    if (in_pod && cmdline.manager == VM_MANAGER_LIBVIRT)
        process->cmdline->manager = VM_MANAGER_KUBEVIRT;
    return 0;
}

/* A pod holds other processes beside the VM's. */
static int examine_helper(const char *text, size_t length, bool known_program, bool in_pod,
                          struct process *process)
{
    char socket[SOCKET_PATH_SIZE];

    if (in_pod && !known_program)
        free(TAKE_PTR(process->machine));
    if (known_program && parse_helper_cmdline(text, length, socket)) {
        process->socket = strdup(socket);
        if (!process->socket)
            return -ENOMEM;
    }
    if (process->machine || process->socket)
        process->kind = PROCESS_HELPER;
    return 0;
}

static int examine_program(int proc_fd, const char *executable, bool in_pod,
                           struct process *process)
{
    _cleanup_free_ char *text = NULL;
    size_t length = 0;
    int r;

    if (!executable || is_vm_program(executable)) {
        r = read_cmdline(proc_fd, process->id.pid, &text, &length);
        if (r < 0)
            return r;
    }
    if (!executable) {
        executable = arguments_next(&(struct arguments){text, length, 0});
        if (!executable)
            return 0;
    }
    if (path_is_qemu(executable))
        return examine_qemu(text, length, in_pod, process);
    return examine_helper(text, length, path_is_helper(executable), in_pod, process);
}

/* Whose process it is comes before all that it says of itself. A control group that only the
 * service manager can have put it into says as much as its owner: libvirt runs swtpm, and QEMU
 * where a domain's XML says so, as other users. */
static int examine_candidate(int proc_fd, const char *executable, const struct process_rules *rules,
                             struct process *process)
{
    enum machine_cgroup_type type = MACHINE_CGROUP_SCOPE;
    int r = read_machine(proc_fd, process, &type);

    if (r < 0)
        return r;
    if (!process->machine && executable && !is_vm_program(executable))
        return 0;
    if (!process->private_machine)
        r = read_owner(proc_fd, process->id.pid, rules->owners, &process->untrusted);
    if (r < 0)
        return is_shortage(r) ? r : 0;
    if (process->untrusted && !rules->accept_untrusted) {
        process->refused = executable && is_vm_program(executable);
        return 0;
    }
    return examine_program(proc_fd, executable, type == MACHINE_CGROUP_POD, process);
}

int process_examine(int proc_fd, pid_t pid, const char *executable,
                    const struct process_rules *rules, struct process *ret)
{
    _cleanup_(process_deinit) struct process process = {0};
    struct proc_stat stat;
    int r = read_stat(proc_fd, pid, &stat);

    /* A VM must not seem to be gone because the daemon is short of memory or descriptors. */
    if (r < 0)
        return is_shortage(r) ? r : 0;
    process.id = (struct process_id){pid, stat.start_ticks};
    process.parent = stat.ppid;
    if (is_zombie(&stat))
        process.kind = PROCESS_OTHER;
    else if (stat.flags & PROC_FLAG_KTHREAD)
        process.kind = vhost_qemu(stat.comm, &process.served) ? PROCESS_VHOST : PROCESS_OTHER;
    else
        r = examine_candidate(proc_fd, executable, rules, &process);
    if (r < 0)
        return r;
    if (process.kind == PROCESS_QEMU)
        count_vcpus(proc_fd, stat.threads, rules, &process);
    else if (process.kind == PROCESS_OTHER)
        free(TAKE_PTR(process.machine));
    *ret = process;
    process = (struct process){0};
    return 1;
}
