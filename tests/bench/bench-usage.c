/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a tick costs in CPU time to find the VMs and to read their usage, by the
 * number of VMs (processes of 8 threads under QEMU's name) and of other
 * processes, with eBPF and without. Needs root.
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "discovery/discovery.h"
#include "usage/bpf.h"
#include "usage/procfs.h"
#include "util/clock.h"
#include "util/file.h"

#define THREADS 8
#define TICKS 10

static char directory[] = "/tmp/virtjoule-bench-XXXXXX";
static pid_t *children;
static size_t n_children;

/* A thread of a VM that does little. */
static void *wake_now_and_then(void *unused)
{
    for (;;)
        sleep(1);
    return NULL;
}

static int run_vm(void)
{
    pthread_attr_t attributes;
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    for (int i = 1; i < THREADS; i++)
        pthread_create(&thread, &attributes, wake_now_and_then, NULL);
    wake_now_and_then(NULL);
    return 0;
}

static int start(const char *program, size_t n)
{
    char path[64], uuid[UUID_TEXT_SIZE];
    uuid_t id;

    snprintf(path, sizeof(path), "%s/%s", directory, program);
    for (size_t i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return -1;
        if (pid == 0) {
            uuid_generate(id);
            uuid_unparse_lower(id, uuid);
            execl(path, path, "-name", "guest", "-uuid", uuid, "-m", "128", NULL);
            _exit(1);
        }
        children[n_children++] = pid;
    }
    return 0;
}

static void stop_all(void)
{
    while (n_children > 0) {
        pid_t pid = children[--n_children];

        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

static uint64_t resident_kb(void)
{
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file) {
        if (fscanf(file, "%lu %lu", &size, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static int open_provider(const char *name, struct usage_provider **ret)
{
    const struct bpf_usage_config config = {
        .sysfs_root = "/sys",
        .processes_max = BPF_USAGE_PROCESSES_MAX,
        .counters = bpf_usage_counters,
    };

    return strcmp(name, "bpf") == 0
               ? bpf_usage_new(ret, &config)
               : procfs_usage_new(ret, "/proc", "/sys", &(struct usage_former){0});
}

/* As the daemon's, without energy. */
static int tick(struct discovery *discovery, struct usage_provider *provider, struct vm_table *vms,
                size_t *ret_vms)
{
    struct process_changes changes = {.all = true};
    struct vm_table found;
    struct usage usage;
    int r;

    if (provider->ops->take_changes)
        provider->ops->take_changes(provider, &changes);
    r = discovery_refresh(discovery, &changes, &found);
    if (r < 0)
        return r;
    if (r > 0) {
        vm_table_deinit(vms);
        *vms = found;
    }
    r = provider->ops->sample(provider, vms, &usage);
    if (r < 0)
        return r;
    *ret_vms = usage.n_vms;
    usage_deinit(&usage);
    return 0;
}

static int measure(const char *name, size_t n_vms, size_t n_others)
{
    const struct discovery_config config = {
        .procfs = true, .proc_root = "/proc", .owners = {.n = 1}};
    struct usage_provider *provider = NULL;
    struct discovery *discovery = NULL;
    struct vm_table vms = {0};
    uint64_t spent_ns = 0;
    size_t seen = 0;
    int r = open_provider(name, &provider);

    if (r == 0)
        r = discovery_new(&config, &discovery);
    /* The first one looks at everything, the second still at what is young. */
    for (int i = 0; i < TICKS + 2 && r == 0; i++) {
        uint64_t begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

        r = tick(discovery, provider, &vms, &seen);
        if (i >= 2)
            spent_ns += clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
        usleep(500000);
    }
    if (r == 0)
        printf("%-6s %5zu VMs, %5zu other processes: %7.3f ms a tick, %5lu KiB resident%s\n", name,
               n_vms, n_others, (double)spent_ns / TICKS / 1e6, (unsigned long)resident_kb(),
               seen == n_vms ? "" : ", NOT ALL SEEN");
    else
        printf("%s: %s\n", name, strerror(-r));
    fflush(stdout);
    vm_table_deinit(&vms);
    discovery_free(discovery);
    usage_provider_free(provider);
    return r;
}

static int copy_self(const char *name)
{
    char *text, path[64];
    size_t length;
    int fd, r = read_file_full(AT_FDCWD, "/proc/self/exe", 64 << 20, &text, &length);

    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    r = fd >= 0 && write(fd, text, length) == (ssize_t)length ? 0 : -1;
    if (fd >= 0)
        close(fd);
    free(text);
    return r;
}

static int compare(size_t n_vms, size_t n_others)
{
    int r = start("qemu-system-bench", n_vms) < 0 || start("other", n_others) < 0;

    sleep(2);
    /* In processes of their own: memory that one has used is not the other's. */
    for (int i = 0; i < 2 && r == 0; i++) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
            _exit(measure(i == 0 ? "bpf" : "procfs", n_vms, n_others) == 0 ? 0 : 1);
        waitpid(pid, &status, 0);
        r = status;
    }
    stop_all();
    return r;
}

int main(int argc, char **argv)
{
    static const size_t cases[][2] = {{10, 0}, {100, 0}, {1000, 0}, {100, 2000}};
    const struct rlimit files = {65536, 65536};
    char command[64];
    int r;

    if (argc > 1)
        return run_vm();
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 77;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    children = calloc(4096, sizeof(*children));
    if (!children || !mkdtemp(directory))
        return EXIT_FAILURE;
    r = copy_self("qemu-system-bench") < 0 || copy_self("other") < 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && r == 0; i++)
        r = compare(cases[i][0], cases[i][1]);
    snprintf(command, sizeof(command), "rm -r %s", directory);
    r |= system(command);
    free(children);
    return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
