/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/memory_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "host/machine_cgroup.h"
#include "host/proc_text.h"
#include "memory/memory_text.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"

/* A QEMU has some hundred mappings of about 100 bytes each. */
#define NUMA_MAPS_TEXT_MAX (16 << 20)
/* 60 lines of v2, each with a number for every node. */
#define NUMA_STAT_TEXT_MAX (1 << 20)

/* The longest walk over page tables, and its assumed cost for each small page until the guest's own
 * cost is known (bench-memory measured 41 ns). Huge pages cost next to nothing. */
#define WALK_MAX_NS (250 * NSEC_PER_MSEC)
#define WALK_NS_PER_PAGE 40

/* Bytes by node number. Numbers may skip, so there is room up to the highest. */
struct node_bytes {
    size_t n;
    uint64_t *bytes;
};

static int node_bytes_init(struct node_bytes *ret, const struct topology *topology)
{
    ret->n = topology->nodes[topology->n_nodes - 1].number + 1u;
    ret->bytes = calloc(ret->n, sizeof(*ret->bytes));
    return ret->bytes ? 0 : -ENOMEM;
}

static void node_bytes_deinit(struct node_bytes *nodes)
{
    free(nodes->bytes);
}

static void add_to_sockets(const struct topology *topology, const struct node_bytes *nodes,
                           uint64_t *sockets)
{
    for (size_t i = 0; i < topology->n_nodes; i++)
        sockets[topology->nodes[i].socket] += nodes->bytes[topology->nodes[i].number];
}

static bool has_directory(int fd, const char *path)
{
    return faccessat(fd, path, F_OK, 0) == 0;
}

/* v2 alone, v1, or v1 beside a v2 that holds the controllers missing in v1. */
static struct memory_hierarchy find_hierarchy(int sysfs_fd, const char *controller,
                                              const char *v1_directory)
{
    if (has_directory(sysfs_fd, "fs/cgroup/cgroup.controllers"))
        return (struct memory_hierarchy){"", "fs/cgroup"};
    if (has_directory(sysfs_fd, v1_directory))
        return (struct memory_hierarchy){controller, v1_directory};
    return (struct memory_hierarchy){"", "fs/cgroup/unified"};
}

int memory_probe_open(struct memory_probe *ret, const char *proc_root, const char *sysfs_root)
{
    struct memory_probe source = {0};

    source.proc_fd = open(proc_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source.proc_fd < 0)
        return -errno;
    source.sysfs_fd = open(sysfs_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    source.memory = find_hierarchy(source.sysfs_fd, "memory", "fs/cgroup/memory");
    source.hugetlb = find_hierarchy(source.sysfs_fd, "hugetlb", "fs/cgroup/hugetlb");
    *ret = source;
    return 0;
}

void memory_probe_close(struct memory_probe *source)
{
    if (source->proc_fd >= 0)
        close(source->proc_fd);
    if (source->sysfs_fd >= 0)
        close(source->sysfs_fd);
}

/* The process' machine scope, below the sysfs root; NULL where there is none. */
static char *read_scope(const struct memory_probe *source, const struct memory_hierarchy *where,
                        pid_t pid)
{
    struct machine_cgroup cgroup;
    char path[64], text[8192];
    const char *line;
    size_t line_length;
    ssize_t length;
    char *scope;

    snprintf(path, sizeof(path), "%d/cgroup", pid);
    length = read_file(source->proc_fd, path, text, sizeof(text));
    if (length < 0 ||
        !parse_cgroup_line(text, (size_t)length, where->controller, &line, &line_length) ||
        !parse_machine_cgroup(line, line_length, &cgroup) || !machine_cgroup_is_private(&cgroup))
        return NULL;
    if (asprintf(&scope, "%s%.*s", where->directory, (int)cgroup.length, cgroup.path) < 0)
        return NULL;
    return scope;
}

/* The scope of all QEMU processes of the VM; NULL where they do not share one. */
static char *find_scope(const struct memory_probe *source, const struct memory_hierarchy *where,
                        const struct vm *vm)
{
    _cleanup_free_ char *scope = NULL;

    for (size_t i = 0; i < vm->n_processes; i++) {
        _cleanup_free_ char *own = NULL;

        if (vm->processes[i].role != VM_PROCESS_QEMU)
            continue;
        own = read_scope(source, where, vm->processes[i].id.pid);
        if (!own || (scope && strcmp(own, scope) != 0))
            return NULL;
        if (!scope)
            scope = TAKE_PTR(own);
    }
    return TAKE_PTR(scope);
}

/* The memory of a process, if its identity is unchanged. */
static int read_status(const struct memory_probe *source, const struct process_id *id,
                       struct proc_memory *ret)
{
    char path[64], text[4096];
    struct proc_memory memory;
    struct proc_stat stat;
    ssize_t length;
    int r;

    snprintf(path, sizeof(path), "%d/status", id->pid);
    length = read_file(source->proc_fd, path, text, sizeof(text));
    if (length < 0)
        return (int)length;
    r = parse_proc_memory(text, (size_t)length, &memory);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%d/stat", id->pid);
    length = read_file(source->proc_fd, path, text, sizeof(text));
    if (length < 0)
        return (int)length;
    r = parse_proc_stat(text, (size_t)length, &stat);
    if (r < 0)
        return r;
    if (stat.start_ticks != id->start_ticks)
        return -ESRCH;
    *ret = memory;
    return 0;
}

/* Sums over its QEMU processes. */
static int read_qemu(const struct memory_probe *source, const struct vm *vm,
                     struct proc_memory *ret)
{
    struct proc_memory sum = {0};

    for (size_t i = 0; i < vm->n_processes; i++) {
        struct proc_memory memory;
        int r;

        if (vm->processes[i].role != VM_PROCESS_QEMU)
            continue;
        r = read_status(source, &vm->processes[i].id, &memory);
        if (r < 0)
            return r;
        sum.anonymous += memory.anonymous;
        sum.file += memory.file;
        sum.shared += memory.shared;
        sum.huge += memory.huge;
    }
    *ret = sum;
    return 0;
}

/* Anonymous memory of the helpers that are not in the scope. */
static uint64_t read_helpers(const struct memory_probe *source, const struct vm_memory *memory)
{
    const struct vm *vm = memory->vm;
    uint64_t bytes = 0;

    for (size_t i = 0; i < vm->n_processes; i++) {
        _cleanup_free_ char *scope = NULL;
        struct proc_memory own;

        if (vm->processes[i].role != VM_PROCESS_HELPER)
            continue;
        if (memory->scope)
            scope = read_scope(source, &source->memory, vm->processes[i].id.pid);
        if ((!scope || strcmp(scope, memory->scope) != 0) &&
            read_status(source, &vm->processes[i].id, &own) == 0)
            bytes += own.anonymous;
    }
    return bytes;
}

static void forget_scope(struct vm_memory *memory)
{
    free(memory->scope);
    free(memory->huge_scope);
    memory->scope = NULL;
    memory->huge_scope = NULL;
    memory->scope_shared = false;
}

void vm_memory_reset(struct vm_memory *memory)
{
    forget_scope(memory);
    *memory = (struct vm_memory){.vm = memory->vm};
}

void memory_probe_examine(const struct memory_probe *source, struct vm_memory *memory)
{
    struct proc_memory qemu;

    forget_scope(memory);
    memory->scope = find_scope(source, &source->memory, memory->vm);
    memory->huge_scope = find_scope(source, &source->hugetlb, memory->vm);
    /* Checked after the groups: if the process is still the same, the groups were its own. */
    if (read_qemu(source, memory->vm, &qemu) == 0)
        memory->has_huge = qemu.huge > 0;
    else
        forget_scope(memory);
    memory->helper_bytes = read_helpers(source, memory);
    memory->walk_due = true;
}

static int read_numa_stat(const struct memory_probe *source, const char *scope,
                          struct node_bytes *nodes)
{
    _cleanup_free_ char *path = NULL, *text = NULL;
    size_t length;
    int r;

    if (asprintf(&path, "%s/memory.numa_stat", scope) < 0)
        return -ENOMEM;
    r = read_file_full(source->sysfs_fd, path, NUMA_STAT_TEXT_MAX, &text, &length);
    if (r < 0)
        return r;
    if (*source->memory.controller)
        return parse_cgroup1_numa_stat(text, length, (uint64_t)sysconf(_SC_PAGESIZE), nodes->bytes,
                                       nodes->n);
    return parse_cgroup2_numa_stat(text, length, nodes->bytes, nodes->n);
}

/* @return 0, -ENOENT where the kernel does not count huge pages, or another negative errno */
static int read_hugetlb_numa_stat(const struct memory_probe *source, const char *scope,
                                  struct node_bytes *nodes)
{
    static const char *const sizes[] = {"2MB", "1GB"};
    int result = -ENOENT;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t length;
        int r;

        if (asprintf(&path, "%s/hugetlb.%s.numa_stat", scope, sizes[i]) < 0)
            return -ENOMEM;
        r = read_file_full(source->sysfs_fd, path, NUMA_STAT_TEXT_MAX, &text, &length);
        if (r == -ENOENT)
            continue;
        if (r == 0)
            r = parse_hugetlb_numa_stat(text, length, nodes->bytes, nodes->n);
        if (r < 0)
            return r;
        result = 0;
    }
    return result;
}

/* Bytes by socket, and bytes whose socket is not known. */
struct reading {
    uint64_t sockets[PACKAGES_MAX];
    uint64_t qemu;    /* in small pages, or the kernel's choice of pages */
    uint64_t huge;    /* in huge pages */
    uint64_t helpers; /* of helpers */
};

/* From the scope's statistics; huge pages from QEMU's status where the scope does not count
 * them. */
static int read_from_scope(const struct memory_probe *source, const struct vm_memory *memory,
                           struct reading *ret)
{
    _cleanup_(node_bytes_deinit) struct node_bytes nodes = {0}, huge = {0};
    struct reading reading = {.helpers = memory->helper_bytes};
    int r;

    if (!memory->scope || memory->scope_shared)
        return -ENOENT;
    if (node_bytes_init(&nodes, source->topology) < 0 ||
        node_bytes_init(&huge, source->topology) < 0)
        return -ENOMEM;
    r = read_numa_stat(source, memory->scope, &nodes);
    if (r < 0)
        return r;
    add_to_sockets(source->topology, &nodes, reading.sockets);
    if (memory->has_huge) {
        struct proc_memory qemu;

        if (memory->huge_scope && read_hugetlb_numa_stat(source, memory->huge_scope, &huge) == 0)
            add_to_sockets(source->topology, &huge, reading.sockets);
        else if (read_qemu(source, memory->vm, &qemu) == 0)
            reading.huge = qemu.huge;
    }
    *ret = reading;
    return 0;
}

static int read_from_processes(const struct memory_probe *source, const struct vm_memory *memory,
                               struct reading *ret)
{
    struct proc_memory qemu;
    int r = read_qemu(source, memory->vm, &qemu);

    if (r < 0)
        return r;
    *ret = (struct reading){.qemu = qemu.anonymous + qemu.file + qemu.shared,
                            .huge = qemu.huge,
                            .helpers = memory->helper_bytes};
    return 0;
}

/* Sets the placement from the page tables; unchanged on failure. */
static int walk_page_tables(const struct memory_probe *source, struct vm_memory *memory,
                            bool only_huge)
{
    _cleanup_(node_bytes_deinit) struct node_bytes nodes = {0}, huge = {0};
    const struct vm *vm = memory->vm;

    if (node_bytes_init(&nodes, source->topology) < 0 ||
        node_bytes_init(&huge, source->topology) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < vm->n_processes; i++) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        size_t length;
        int r;

        if (vm->processes[i].role != VM_PROCESS_QEMU)
            continue;
        snprintf(path, sizeof(path), "%d/numa_maps", vm->processes[i].id.pid);
        r = read_file_full(source->proc_fd, path, NUMA_MAPS_TEXT_MAX, &text, &length);
        if (r == 0)
            r = parse_numa_maps(text, length, nodes.bytes, huge.bytes, nodes.n);
        if (r < 0)
            return r;
    }
    memset(memory->placement, 0, sizeof(memory->placement));
    add_to_sockets(source->topology, &huge, memory->placement);
    if (!only_huge)
        add_to_sockets(source->topology, &nodes, memory->placement);
    return 0;
}

static uint64_t sum_of(const uint64_t *sockets)
{
    uint64_t sum = 0;

    for (unsigned s = 0; s < PACKAGES_MAX; s++)
        sum += sockets[s];
    return sum;
}

/* Adds bytes to the sockets in proportions whose sum is not 0. */
static void add_in_proportion(uint64_t bytes, const uint64_t *proportions, uint64_t *sockets)
{
    uint64_t sum = sum_of(proportions), left = sum;

    /* Each socket takes its part of the rest, so that rounding loses nothing. */
    for (unsigned s = 0; left > 0; s++) {
        uint64_t part = (uint64_t)((__uint128_t)bytes * proportions[s] / left);

        sockets[s] += part;
        bytes -= part;
        left -= proportions[s];
    }
}

static bool is_one_socket(const struct topology *topology)
{
    for (size_t i = 1; i < topology->n_nodes; i++)
        if (topology->nodes[i].socket != topology->nodes[0].socket)
            return false;
    return true;
}

/* Places memory of unknown socket, by the first of these that is known: the page tables; the VM's
 * other memory; its CPU time, as the kernel allocates on the node where a task runs; the first
 * node. */
static void place(const struct memory_probe *source, const struct vm_memory *memory,
                  const struct usage_amount *usage, struct reading *reading)
{
    uint64_t cpu[PACKAGES_MAX] = {0}, first[PACKAGES_MAX] = {0}, known[PACKAGES_MAX];
    enum { LAST = 3 };
    const uint64_t *const choices[LAST + 1] = {memory->placement, known, cpu, first};
    size_t i = 0;

    memcpy(known, reading->sockets, sizeof(known));
    first[source->topology->nodes[0].socket] = 1;
    for (unsigned s = 0; usage && s < PACKAGES_MAX; s++)
        cpu[s] = usage->sockets[s].cpu_ns;
    while (i < LAST && (sum_of(choices[i]) == 0 || is_one_socket(source->topology)))
        i++;
    add_in_proportion(reading->qemu + reading->huge + reading->helpers, choices[i],
                      reading->sockets);
}

/* @return CPU time of the walk; 0 where it would take too long, or the file cannot be read */
static uint64_t walk_within_limit(const struct memory_probe *source, struct vm_memory *memory,
                                  uint64_t bytes, bool only_huge)
{
    __uint128_t expected_ns = memory->walk_bytes
                                  ? (__uint128_t)bytes * memory->walk_ns / memory->walk_bytes
                                  : (__uint128_t)bytes / 4096 * WALK_NS_PER_PAGE;
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    if (expected_ns > WALK_MAX_NS || walk_page_tables(source, memory, only_huge) < 0)
        return 0;
    memory->walk_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    memory->walk_bytes = bytes;
    return memory->walk_ns;
}

uint64_t memory_probe_read(const struct memory_probe *source, struct vm_memory *memory,
                           const struct usage_amount *usage, bool walk)
{
    struct reading reading;
    uint64_t walk_ns = 0;

    if (read_from_scope(source, memory, &reading) < 0 &&
        read_from_processes(source, memory, &reading) < 0)
        return 0;
    if (walk && memory->walk_due && reading.qemu + reading.huge > 0 &&
        !is_one_socket(source->topology)) {
        /* The memory counted by the scope is in QEMU's page tables as well. */
        walk_ns = walk_within_limit(source, memory, reading.qemu + sum_of(reading.sockets),
                                    reading.qemu == 0);
        memory->walk_due = false;
    }
    place(source, memory, usage, &reading);
    memcpy(memory->bytes, reading.sockets, sizeof(memory->bytes));
    return walk_ns;
}

void memory_probe_read_host(const struct memory_probe *source, uint64_t ret[PACKAGES_MAX])
{
    const struct topology *topology = source->topology;
    char path[64], text[8192];
    bool any = false;
    uint64_t bytes;
    ssize_t length;

    for (size_t i = 0; i < topology->n_nodes; i++) {
        snprintf(path, sizeof(path), "devices/system/node/node%u/meminfo",
                 topology->nodes[i].number);
        length = read_file(source->sysfs_fd, path, text, sizeof(text));
        if (length < 0 || parse_meminfo_used(text, (size_t)length, &bytes) < 0)
            continue;
        ret[topology->nodes[i].socket] += bytes;
        any = true;
    }
    if (any)
        return;
    length = read_file(source->proc_fd, "meminfo", text, sizeof(text));
    if (length >= 0 && parse_meminfo_used(text, (size_t)length, &bytes) == 0)
        ret[topology->nodes[0].socket] += bytes;
}
