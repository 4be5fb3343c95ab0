/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/topology.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "host/topology_text.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"

/* 1 << NODES_SHIFT of the largest kernel configuration. */
#define NODES_MAX 1024
/* A list of 8192 CPUs, none next to another. */
#define LIST_TEXT_MAX (64 << 10)

#define NO_SOCKET UINT8_MAX

/* The directory to read from, and a list of CPUs to read into. */
struct reader {
    int system_fd; /* sysfs_root/devices/system, or -1 */
    unsigned sockets_max;
    size_t n_cpus;
    bool *listed; /* by CPU number */
};

__attribute__((format(printf, 2, 3))) static int read_cpulist(struct reader *reader,
                                                              const char *format, ...)
{
    _cleanup_free_ char *text = NULL;
    char path[128];
    va_list arguments;
    size_t length;
    int r;

    va_start(arguments, format);
    vsnprintf(path, sizeof(path), format, arguments);
    va_end(arguments);
    r = read_file_full(reader->system_fd, path, LIST_TEXT_MAX, &text, &length);
    if (r < 0)
        return r;
    r = parse_cpulist(text, length, reader->listed, reader->n_cpus);
    if (r < 0)
        log_warning("not a list of CPUs", F_STRING("file", path));
    return r;
}

static uint8_t read_socket(const struct reader *reader, size_t cpu)
{
    char path[128];
    uint64_t id;

    snprintf(path, sizeof(path), "cpu/cpu%zu/topology/physical_package_id", cpu);
    if (read_sysfs_u64(reader->system_fd, path, &id) < 0)
        return 0;
    if (id < reader->sockets_max)
        return (uint8_t)id;
    log_warning("CPU in a socket of too high a number, counted to socket 0", F_UINT("cpu", cpu),
                F_UINT("socket", id));
    return 0;
}

/* The next CPU of the same core. */
static int16_t read_sibling(struct reader *reader, size_t cpu)
{
    if (read_cpulist(reader, "cpu/cpu%zu/topology/thread_siblings_list", cpu) < 0)
        return -1;
    for (size_t i = 1; i < reader->n_cpus; i++) {
        size_t other = (cpu + i) % reader->n_cpus;

        if (reader->listed[other])
            return (int16_t)other;
    }
    return -1;
}

static int compare_node(const void *a, const void *b)
{
    const struct topology_node *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

/* Lists the nodes by their nodeN directories; the numbers may skip. */
static int list_nodes(const struct reader *reader, struct topology *topology)
{
    _cleanup_close_ int fd = openat(reader->system_fd, "node", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_closedir_ DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir)
        return fd < 0 ? 0 /* a kernel without NUMA */ : -ENOMEM;
    fd = -1; /* the stream owns it */
    while ((entry = readdir(dir))) {
        struct topology_node *grown;
        uint64_t number;

        if (strncmp(entry->d_name, "node", 4) != 0 ||
            parse_u64(entry->d_name + 4, strlen(entry->d_name + 4), &number) < 0 ||
            number >= NODES_MAX)
            continue;
        grown = realloc(topology->nodes, (topology->n_nodes + 1) * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        topology->nodes = grown;
        topology->nodes[topology->n_nodes++] =
            (struct topology_node){.number = (unsigned)number, .socket = NO_SOCKET};
    }
    if (topology->n_nodes)
        qsort(topology->nodes, topology->n_nodes, sizeof(*topology->nodes), compare_node);
    return 0;
}

static uint8_t socket_of_cpus(struct reader *reader, const struct topology *topology, unsigned node)
{
    if (read_cpulist(reader, "node/node%u/cpulist", node) < 0)
        return NO_SOCKET;
    for (size_t cpu = 0; cpu < reader->n_cpus; cpu++)
        if (reader->listed[cpu])
            return topology->socket[cpu];
    return NO_SOCKET;
}

/* The socket of the nearest node that has CPUs; without distances, of the first one. */
static uint8_t nearest_socket(const struct reader *reader, const struct topology *topology,
                              const bool *has_cpus, unsigned node)
{
    unsigned distances[NODES_MAX], least = UINT_MAX;
    char path[64], text[16 * 1024];
    uint8_t socket = NO_SOCKET;
    ssize_t length;
    size_t n = 0;

    snprintf(path, sizeof(path), "node/node%u/distance", node);
    length = read_file(reader->system_fd, path, text, sizeof(text));
    if (length < 0 || parse_node_distances(text, (size_t)length, distances, NODES_MAX, &n) < 0 ||
        n != topology->n_nodes) {
        log_warning("a memory node's distances are not known: counted to the first node's socket",
                    F_UINT("node", node));
        n = 0;
    }
    for (size_t i = 0; i < topology->n_nodes; i++)
        if (has_cpus[i] && (socket == NO_SOCKET || (n && distances[i] < least))) {
            socket = topology->nodes[i].socket;
            least = n ? distances[i] : 0;
        }
    return socket == NO_SOCKET ? 0 : socket;
}

static int read_nodes(struct reader *reader, struct topology *topology)
{
    bool has_cpus[NODES_MAX];
    int r = list_nodes(reader, topology);

    if (r < 0)
        return r;
    if (topology->n_nodes == 0) {
        topology->nodes = calloc(1, sizeof(*topology->nodes));
        topology->n_nodes = 1;
        return topology->nodes ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < topology->n_nodes; i++) {
        struct topology_node *node = &topology->nodes[i];

        node->socket = socket_of_cpus(reader, topology, node->number);
        has_cpus[i] = node->socket != NO_SOCKET;
    }
    for (size_t i = 0; i < topology->n_nodes; i++)
        if (!has_cpus[i])
            topology->nodes[i].socket =
                nearest_socket(reader, topology, has_cpus, topology->nodes[i].number);
    return 0;
}

static int read_all(struct reader *reader, struct topology *topology)
{
    size_t n = reader->n_cpus;

    topology->n_cpus = n;
    topology->socket = calloc(n ? n : 1, sizeof(*topology->socket));
    topology->sibling = calloc(n ? n : 1, sizeof(*topology->sibling));
    if (!topology->socket || !topology->sibling)
        return -ENOMEM;
    for (size_t cpu = 0; cpu < n; cpu++) {
        topology->socket[cpu] = read_socket(reader, cpu);
        topology->sibling[cpu] = read_sibling(reader, cpu);
    }
    return read_nodes(reader, topology);
}

int topology_read(struct topology *ret, const char *sysfs_root, size_t n_cpus, unsigned sockets_max)
{
    _cleanup_free_ bool *listed = calloc(n_cpus ? n_cpus : 1, sizeof(*listed));
    _cleanup_close_ int system_fd = -1;
    struct topology topology = {0};
    char path[PATH_MAX];
    int r;

    if (!listed)
        return -ENOMEM;
    snprintf(path, sizeof(path), "%s/devices/system", sysfs_root);
    system_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    r = read_all(&(struct reader){system_fd, sockets_max, n_cpus, listed}, &topology);
    if (r < 0) {
        topology_deinit(&topology);
        return r;
    }
    *ret = topology;
    return 0;
}

void topology_deinit(struct topology *topology)
{
    free(topology->socket);
    free(topology->sibling);
    free(topology->nodes);
    *topology = (struct topology){0};
}

unsigned topology_node_socket(const struct topology *topology, unsigned number)
{
    const struct topology_node *node =
        bsearch(&(struct topology_node){.number = number}, topology->nodes, topology->n_nodes,
                sizeof(*topology->nodes), compare_node);

    return node ? node->socket : 0;
}
