/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What reading the VMs' memory costs per tick, and what a walk over a guest's
 * page tables costs. The VMs are one process under many UUIDs: the cost of
 * reading it is the same each time.
 *
 * Fails where a call with four times the VMs costs more than twice the time:
 * readings have a budget, and only finding the VMs in the table grows.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/proc_text.h"
#include "memory/memory.h"
#include "util/clock.h"
#include "util/file.h"

#define RAM_PAGES UINT64_C(65536)
#define RAM_BYTES (RAM_PAGES * 4096)
#define BENCH_VMS_MAX 4000
#define CALLS 200

/* A process with that much touched memory. */
static pid_t start_guest(int huge)
{
    int ready[2];
    char byte = 0;
    pid_t pid;

    if (pipe(ready) < 0)
        exit(1);
    pid = fork();
    if (pid == 0) {
        unsigned char *ram =
            mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ram == MAP_FAILED || madvise(ram, RAM_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
            _exit(1);
        for (size_t i = 0; i < RAM_BYTES; i += 4096)
            ram[i] = 1;
        if (write(ready[1], &byte, 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        exit(1);
    close(ready[0]);
    return pid;
}

static struct process_id id_of(pid_t pid)
{
    char path[64], text[1024];
    struct proc_stat stat;
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    length = read_file(-1, path, text, sizeof(text));
    if (length < 0 || parse_proc_stat(text, (size_t)length, &stat) < 0)
        exit(1);
    return (struct process_id){pid, stat.start_ticks};
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* CPU time of one call with n VMs, the median. */
static uint64_t time_call(const struct topology *topology, struct process_id id, size_t n)
{
    static struct vm vms[BENCH_VMS_MAX];
    static struct usage_vm usage_vms[BENCH_VMS_MAX];
    struct vm_process process = {id, VM_PROCESS_QEMU};
    struct vm_table table = {.vms = vms, .n = n};
    struct usage usage = {.vms = usage_vms, .n_vms = n};
    struct memory_reader *reader;
    uint64_t times[CALLS];

    for (size_t i = 0; i < n; i++) {
        vms[i] = (struct vm){.processes = &process, .n_processes = 1};
        vms[i].uuid[0] = (unsigned char)(i / 256);
        vms[i].uuid[1] = (unsigned char)(i % 256);
        uuid_copy(usage_vms[i].uuid, vms[i].uuid);
    }
    if (memory_reader_new(&reader, "/proc", "/sys", topology) < 0)
        exit(1);
    for (int i = 0; i < CALLS; i++) {
        uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

        if (memory_reader_sample(reader, &table, &usage) < 0)
            exit(1);
        times[i] = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    }
    memory_reader_free(reader);
    qsort(times, CALLS, sizeof(*times), compare);
    return times[CALLS / 2];
}

static uint64_t time_file(pid_t pid, const char *name)
{
    uint64_t least = UINT64_MAX;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    for (int i = 0; i < 20; i++) {
        uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), time;
        size_t length;
        char *text;

        if (read_file_full(-1, path, 16 << 20, &text, &length) < 0)
            exit(77); /* a kernel without NUMA */
        free(text);
        time = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        least = time < least ? time : least;
    }
    return least;
}

int main(void)
{
    pid_t small = start_guest(0), huge = start_guest(1);
    uint64_t status = time_file(small, "status");
    uint64_t walk = time_file(small, "numa_maps"), huge_walk = time_file(huge, "numa_maps");
    struct topology topology;
    uint64_t one, thousand, most;

    printf("status of a VM: %lu ns\n", (unsigned long)status);
    printf("page tables of %lu MB in small pages: %.1f times that, %.1f ns a page\n",
           (unsigned long)(RAM_BYTES >> 20), (double)walk / (double)status,
           (double)walk / (double)RAM_PAGES);
    printf("page tables of the same in huge pages: %.1f times that\n",
           (double)huge_walk / (double)status);
    if (topology_read(&topology, "/sys", (size_t)sysconf(_SC_NPROCESSORS_CONF), PACKAGES_MAX) < 0)
        return 1;
    one = time_call(&topology, id_of(small), 1);
    thousand = time_call(&topology, id_of(small), 1000);
    most = time_call(&topology, id_of(small), BENCH_VMS_MAX);
    printf(
        "a call with 1 VM: %lu ns; 1000 VMs: %.1f times that (%lu ns); %d VMs: %.1f times that\n",
        (unsigned long)one, (double)thousand / (double)one, (unsigned long)thousand, BENCH_VMS_MAX,
        (double)most / (double)one);
    printf("all status files at each call would be %.0f times the call with 1000 VMs\n",
           1000.0 * (double)status / (double)thousand);
    topology_deinit(&topology);
    kill(small, SIGKILL);
    kill(huge, SIGKILL);
    return most > 2 * thousand;
}
