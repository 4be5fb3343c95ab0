/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a tick costs in CPU time, and what is kept in memory, to find the VMs where
 * the kernel reports no changes: by the number of QEMU processes, and of sockets on
 * the command line of each. The processes are a tree of /proc's form in memory.
 */

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "discovery/discovery.h"
#include "util/clock.h"
#include "util/file.h"

#define TICKS 10
#define CMDLINE_MAX (256 * 1024)

#define DIRECTORY "/dev/shm/virtjoule-bench-XXXXXX"

static char directory[sizeof(DIRECTORY)];

static int write_text(int pid, const char *name, const char *text, size_t length)
{
    char path[128];
    int fd, r;

    snprintf(path, sizeof(path), "%s/%d/%s", directory, pid, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    r = fd < 0 ? -1 : write_file_at(fd, text, length, 0);
    if (fd >= 0)
        close(fd);
    return r;
}

static size_t make_cmdline(int pid, size_t n_sockets, char *ret)
{
    size_t length =
        (size_t)sprintf(ret, "qemu-system-x86_64%c-uuid%c%08x-0000-4000-8000-000000000000", '\0',
                        '\0', (unsigned)pid) +
        1;

    for (size_t i = 0; i < n_sockets && length < CMDLINE_MAX - 64; i++)
        length +=
            (size_t)sprintf(ret + length, "-chardev%csocket,path=/%x/%zx", '\0', (unsigned)pid, i) +
            1;
    return length;
}

static int make_process(int pid, size_t n_sockets)
{
    static char text[CMDLINE_MAX];
    char path[128];
    int length;

    snprintf(path, sizeof(path), "%s/%d/task", directory, pid);
    if (make_directories(path, 0700) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/%d/exe", directory, pid);
    if (symlink("/usr/bin/qemu-system-x86_64", path) < 0)
        return -1;
    length = snprintf(text, sizeof(text),
                      "%d (qemu-system-x86) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0 0 "
                      "0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
                      pid, pid);
    if (write_text(pid, "stat", text, (size_t)length) < 0 ||
        write_text(pid, "status", "Uid:\t0\t0\t0\t0\n", 13) < 0 ||
        write_text(pid, "cgroup", "0::/\n", 5) < 0)
        return -1;
    return write_text(pid, "cmdline", text, make_cmdline(pid, n_sockets, text));
}

static double tick_ms(struct discovery *discovery, size_t *ret_vms)
{
    const struct process_changes changes = {.all = true};
    struct vm_table vms = {0};
    uint64_t begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

    if (discovery_refresh(discovery, &changes, &vms) > 0)
        *ret_vms = vms.n;
    vm_table_deinit(&vms);
    return (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns) / 1e6;
}

static size_t kept_kib(void)
{
    struct mallinfo2 memory = mallinfo2();

    return (memory.uordblks + memory.hblkhd) / 1024;
}

/* In a process of its own: memory that one case has used is not another's. */
static int measure(size_t n, size_t n_sockets)
{
    const struct discovery_config config = {.procfs = true, .proc_root = directory};
    struct discovery *discovery;
    double first_ms, sum_ms = 0;
    size_t n_vms = 0;

    if (discovery_new(&config, &discovery) < 0)
        return 1;
    first_ms = tick_ms(discovery, &n_vms);
    for (int i = 0; i < TICKS; i++)
        sum_ms += tick_ms(discovery, &n_vms);
    printf("%6zu processes, %5zu sockets each: first tick %8.2f ms, later %8.2f ms, %7zu KiB kept, "
           "%zu VMs\n",
           n, n_sockets, first_ms, sum_ms / TICKS, kept_kib(), n_vms);
    fflush(stdout);
    discovery_free(discovery);
    return 0;
}

static int run_case(size_t n, size_t n_sockets)
{
    int status = 0;
    pid_t pid;

    if (!mkdtemp(strcpy(directory, DIRECTORY)))
        return 1;
    for (size_t i = 1; i <= n && status == 0; i++)
        status = make_process((int)i, n_sockets);
    pid = status == 0 ? fork() : -1;
    if (pid == 0)
        _exit(measure(n, n_sockets));
    if (pid > 0)
        waitpid(pid, &status, 0);
    return pid < 0 ? 1 : status;
}

static int remove_tree(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command);
}

int main(void)
{
    static const size_t cases[][2] = {{10, 4}, {1000, 4}, {10000, 4}, {400, 10000}};
    int r = 0;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && r == 0; i++) {
        r = run_case(cases[i][0], cases[i][1]);
        r |= remove_tree();
    }
    return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
