/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/host_cpus.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "host/cpu_busy.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* Bounds the deficit: two clocks that always disagree must not take all time from the host. */
#define DEFICIT_MAX_NS ((int64_t)NSEC_PER_SEC)

struct host_cpus {
    char *sysfs_root;
    struct topology topology;
    unsigned n_sockets;
    struct cpu_busy *busy;
    uint64_t arrivals;      /* of CPUs, when the topology was read */
    uint64_t *last_busy_ns; /* by CPU, at the last take: a CPU's socket may become known later */
    size_t n_last;
    uint64_t last_take_ns;            /* CLOCK_MONOTONIC */
    int64_t deficit_ns[PACKAGES_MAX]; /* <= 0 */
};

DEFINE_CLEANUP(struct host_cpus *, host_cpus_free);

struct host_cpus *host_cpus_free(struct host_cpus *cpus)
{
    if (cpus) {
        cpu_busy_free(cpus->busy);
        topology_deinit(&cpus->topology);
        free(cpus->last_busy_ns);
        free(cpus->sysfs_root);
        free(cpus);
    }
    return NULL;
}

bool host_cpus_all_online(const struct host_cpus *cpus)
{
    return cpu_busy_online(cpus->busy) >= cpus->topology.n_cpus;
}

/* The kernel knows the socket of online CPUs only: the topology is read again when one comes. */
static int read_topology(struct host_cpus *cpus)
{
    /* Configured CPUs, not only those online now. */
    size_t n_cpus = (size_t)sysconf(_SC_NPROCESSORS_CONF);
    struct topology topology;
    int r;

    if (cpu_busy_count(cpus->busy) > n_cpus)
        n_cpus = cpu_busy_count(cpus->busy);
    r = topology_read(&topology, cpus->sysfs_root, n_cpus, PACKAGES_MAX);
    if (r < 0)
        return r;
    topology_deinit(&cpus->topology);
    cpus->topology = topology;
    cpus->arrivals = cpu_busy_arrivals(cpus->busy);
    for (size_t cpu = 0; cpu < n_cpus; cpu++)
        if (topology.socket[cpu] >= cpus->n_sockets)
            cpus->n_sockets = topology.socket[cpu] + 1u;
    return 0;
}

int host_cpus_new(struct host_cpus **ret, const char *proc_root, const char *sysfs_root)
{
    _cleanup_(cleanup_host_cpus_free) struct host_cpus *cpus = calloc(1, sizeof(*cpus));
    int r;

    if (!cpus)
        return -ENOMEM;
    cpus->sysfs_root = strdup(sysfs_root);
    if (!cpus->sysfs_root)
        return -ENOMEM;
    r = cpu_busy_new(&cpus->busy, proc_root);
    if (r < 0)
        return r;
    r = read_topology(cpus);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(cpus);
    return 0;
}

const struct topology *host_cpus_topology(const struct host_cpus *cpus)
{
    return &cpus->topology;
}

unsigned host_cpus_n_sockets(const struct host_cpus *cpus)
{
    return cpus->n_sockets;
}

static int reserve_last(struct host_cpus *cpus)
{
    size_t n = cpu_busy_count(cpus->busy);
    uint64_t *grown;

    if (n <= cpus->n_last)
        return 0;
    grown = realloc(cpus->last_busy_ns, n * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + cpus->n_last, 0, (n - cpus->n_last) * sizeof(*grown));
    cpus->last_busy_ns = grown;
    cpus->n_last = n;
    return 0;
}

int host_cpus_update(struct host_cpus *cpus)
{
    int r = cpu_busy_update(cpus->busy, now_ns());

    if (r < 0)
        return r;
    r = reserve_last(cpus);
    if (r < 0)
        return r;
    if (cpu_busy_arrivals(cpus->busy) == cpus->arrivals)
        return 0;
    r = read_topology(cpus);
    return r < 0 ? r : 1;
}

bool host_cpus_was_busy(const struct host_cpus *cpus, size_t cpu)
{
    return cpu < cpus->n_last && 2 * (cpu_busy_ns(cpus->busy, cpu) - cpus->last_busy_ns[cpu]) >
                                     now_ns() - cpus->last_take_ns;
}

void host_cpus_take(struct host_cpus *cpus, struct usage *usage)
{
    int64_t rest_ns[PACKAGES_MAX];

    cpus->last_take_ns = now_ns();
    memcpy(rest_ns, cpus->deficit_ns, sizeof(rest_ns));
    for (size_t cpu = 0; cpu < cpus->n_last; cpu++) {
        unsigned socket = cpu < cpus->topology.n_cpus ? cpus->topology.socket[cpu] : 0;
        uint64_t busy_ns = cpu_busy_ns(cpus->busy, cpu);

        rest_ns[socket] += (int64_t)(busy_ns - cpus->last_busy_ns[cpu]);
        cpus->last_busy_ns[cpu] = busy_ns;
    }
    for (unsigned s = 0; s < PACKAGES_MAX; s++) {
        int64_t rest = rest_ns[s];

        for (size_t i = 0; i < usage->n_vms; i++)
            rest -= (int64_t)usage->vms[i].amount.sockets[s].cpu_ns;
        cpus->deficit_ns[s] = rest < -DEFICIT_MAX_NS ? -DEFICIT_MAX_NS : rest < 0 ? rest : 0;
        usage->host.sockets[s].cpu_ns = rest > 0 ? (uint64_t)rest : 0;
    }
}

/* Follows the state of cpu_busy_save(). */
struct saved_state {
    uint64_t last_take_ns;
    int64_t deficit_ns[PACKAGES_MAX];
};

int host_cpus_save(const struct host_cpus *cpus, struct buffer *ret)
{
    struct saved_state state = {.last_take_ns = cpus->last_take_ns};
    int r;

    memcpy(state.deficit_ns, cpus->deficit_ns, sizeof(state.deficit_ns));
    r = buffer_append(ret, &state, sizeof(state));
    return r < 0 ? r : cpu_busy_save(cpus->busy, ret);
}

int host_cpus_restore(struct host_cpus *cpus, struct bytes *bytes)
{
    const struct saved_state *state = bytes_take(bytes, 1, sizeof(*state));
    int r;

    if (!state || state->last_take_ns > now_ns())
        return -EBADMSG;
    for (unsigned s = 0; s < PACKAGES_MAX; s++)
        if (state->deficit_ns[s] > 0 || state->deficit_ns[s] < -DEFICIT_MAX_NS)
            return -EBADMSG;
    r = cpu_busy_restore(cpus->busy, bytes, now_ns());
    if (r < 0)
        return r;
    r = reserve_last(cpus);
    if (r < 0)
        return r;
    for (size_t cpu = 0; cpu < cpus->n_last; cpu++)
        cpus->last_busy_ns[cpu] = cpu_busy_ns(cpus->busy, cpu);
    cpus->last_take_ns = state->last_take_ns;
    memcpy(cpus->deficit_ns, state->deficit_ns, sizeof(cpus->deficit_ns));
    return 0;
}
