/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "observer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "source/rapl.h"
#include "util/cleanup.h"

/* Server counters: 32 bits of 61.035 uJ, 15.259 uJ for the memory. */
#define PACKAGE_RANGE_UJ UINT64_C(262143328850)
#define DRAM_RANGE_UJ UINT64_C(65712999613)
#define PACKAGE_UNIT_UJ 61.035
#define DRAM_UNIT_UJ 15.259

/* What the filtering of RAPL values (MSR 0xBC) blurs: uniformly distributed, not summed up. */
#define FILTER_J 0.02

struct counter {
    double start_uj; /* counters are not zero when a daemon starts */
    double last_joules;
    int fd;
};

struct observer {
    struct host *host;
    struct random random;
    char *root;
    struct energy_source *source;
    struct sampler sampler;
    struct counter counters[SOCKETS_SIM][2]; /* package, dram */
    struct used used[ENTITIES_SIM][SOCKETS_SIM];
    struct proc_view proc; /* totals, but for thread_s */
    double *task_s;        /* by task: its jiffies so far */
    uint64_t time_us;
};

static void check(bool good)
{
    if (!good) {
        perror("observer");
        abort();
    }
}

static int make_file(const char *directory, const char *name, const char *text)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    check(fd >= 0 && write(fd, text, strlen(text)) >= 0);
    return fd;
}

static int make_zone(const char *root, const char *directory, const char *name, uint64_t range_uj)
{
    char path[200], text[32];

    snprintf(path, sizeof(path), "%s/class/powercap/%s", root, directory);
    check(mkdir(path, 0755) == 0);
    snprintf(text, sizeof(text), "%s\n", name);
    close(make_file(path, "name", text));
    snprintf(text, sizeof(text), "%lu\n", range_uj);
    close(make_file(path, "max_energy_range_uj", text));
    return make_file(path, "energy_uj", "0\n");
}

static void make_tree(struct observer *observer)
{
    char path[64], root[] = "/tmp/accuracy-XXXXXX";

    check(mkdtemp(root));
    observer->root = strdup(root);
    check(observer->root);
    snprintf(path, sizeof(path), "%s/class", root);
    check(mkdir(path, 0755) == 0);
    snprintf(path, sizeof(path), "%s/class/powercap", root);
    check(mkdir(path, 0755) == 0);
    for (unsigned s = 0; s < observer->host->machine->sockets; s++) {
        char directory[32], name[32];

        snprintf(directory, sizeof(directory), "intel-rapl:%u", s);
        snprintf(name, sizeof(name), "package-%u", s);
        observer->counters[s][0].fd = make_zone(root, directory, name, PACKAGE_RANGE_UJ);
        if (!observer->host->machine->has_dram)
            continue;
        snprintf(directory, sizeof(directory), "intel-rapl:%u:0", s);
        observer->counters[s][1].fd = make_zone(root, directory, "dram", DRAM_RANGE_UJ);
    }
}

struct observer *observer_new(struct host *host, uint64_t seed)
{
    struct observer *observer = calloc(1, sizeof(*observer));

    check(observer);
    observer->host = host;
    observer->random.state = seed;
    for (unsigned s = 0; s < SOCKETS_SIM; s++)
        for (unsigned kind = 0; kind < 2; kind++)
            observer->counters[s][kind] = (struct counter){
                /* Soon to wrap: no run is without one. */
                .start_uj = (double)(kind ? DRAM_RANGE_UJ : PACKAGE_RANGE_UJ) -
                            random_uniform(&observer->random, 1e9, 5e9),
                .fd = -1,
            };
    observer->task_s = calloc(host->n_tasks, sizeof(*observer->task_s));
    check(observer->task_s);
    make_tree(observer);
    check(rapl_new(&observer->source, observer->root) == 0);
    return observer;
}

struct observer *observer_free(struct observer *observer)
{
    char command[128];

    observer->source = energy_source_free(observer->source);
    for (unsigned s = 0; s < SOCKETS_SIM; s++)
        for (unsigned kind = 0; kind < 2; kind++)
            if (observer->counters[s][kind].fd >= 0)
                close(observer->counters[s][kind].fd);
    snprintf(command, sizeof(command), "rm -rf %s", observer->root);
    check(system(command) == 0);
    free(observer->task_s);
    free(observer->root);
    free(observer);
    return NULL;
}

const struct zone_set *observer_zones(const struct observer *observer)
{
    return &observer->source->zones;
}

/* A counter shows the energy of its last update, which is up to a millisecond ago. */
static void write_counter(struct observer *observer, struct counter *counter, double joules,
                          double unit_uj, uint64_t range_uj)
{
    double watts = (joules - counter->last_joules) /
                   ((double)(observer->host->time_us - observer->time_us) / 1e6 + 1e-3);
    double shown = joules - watts * random_uniform(&observer->random, 0, 1e-3) +
                   random_uniform(&observer->random, -FILTER_J, FILTER_J);
    double units = floor((counter->start_uj + shown * 1e6) / unit_uj);
    char text[32];
    int length = snprintf(text, sizeof(text), "%.0f\n", fmod(units * unit_uj, (double)range_uj));

    counter->last_joules = joules;
    check(pwrite(counter->fd, text, (size_t)length, 0) == length &&
          ftruncate(counter->fd, length) == 0);
}

static void read_energy(struct observer *observer, struct sample *ret)
{
    struct reading readings[ZONES_MAX];

    for (unsigned s = 0; s < observer->host->machine->sockets; s++) {
        const struct socket *socket = &observer->host->sockets[s];

        write_counter(observer, &observer->counters[s][0], socket->package_joules, PACKAGE_UNIT_UJ,
                      PACKAGE_RANGE_UJ);
        if (observer->host->machine->has_dram)
            write_counter(observer, &observer->counters[s][1], socket->dram_joules, DRAM_UNIT_UJ,
                          DRAM_RANGE_UJ);
    }
    observer->source->ops->read(observer->source, readings);
    /* The simulated clock for the real one. */
    for (size_t i = 0; i < observer->source->zones.n; i++)
        readings[i].time_ns = observer->host->time_us * 1000;
    sampler_take(&observer->sampler, &observer->source->zones, readings,
                 observer->host->time_us * 1000, ret);
}

static uint64_t whole(double now, double before)
{
    return (uint64_t)now - (uint64_t)before;
}

static struct usage_socket difference(const struct used *now, const struct used *before,
                                      double memory_bytes)
{
    return (struct usage_socket){
        .cpu_ns = whole(now->cpu_us * 1e3, before->cpu_us * 1e3),
        .corun_ns = whole(now->corun_us * 1e3, before->corun_us * 1e3),
        .cycles = whole(now->cycles, before->cycles),
        .instructions = whole(now->instructions, before->instructions),
        .llc_misses = whole(now->llc_misses, before->llc_misses),
        .memory_bytes = (uint64_t)memory_bytes,
    };
}

void observer_uuid(unsigned entity, uuid_t ret)
{
    memset(ret, 0, sizeof(uuid_t));
    ret[15] = (unsigned char)entity;
}

static void read_usage(struct observer *observer, struct usage *ret)
{
    const struct host *host = observer->host;

    *ret = (struct usage){
        .n_sockets = host->machine->sockets,
        .features = USAGE_CORUN | USAGE_CYCLES | USAGE_INSTRUCTIONS | USAGE_LLC_MISSES,
        .n_vms = host->n_entities - 1,
        .vms = calloc(host->n_entities, sizeof(*ret->vms)),
    };
    check(ret->vms);
    for (unsigned e = 0; e < host->n_entities; e++) {
        const struct entity *entity = &host->entities[e];
        struct usage_amount *amount = e == 0 ? &ret->host : &ret->vms[e - 1].amount;

        if (e > 0)
            observer_uuid(e, ret->vms[e - 1].uuid);
        for (unsigned s = 0; s < host->machine->sockets; s++) {
            amount->sockets[s] =
                difference(&entity->used[s], &observer->used[e][s], entity->memory_bytes[s]);
            observer->used[e][s] = entity->used[s];
        }
    }
}

static double jiffies_s(double seconds)
{
    return floor(seconds * USER_HZ + 1e-9) / USER_HZ;
}

/* A host process is a task here, a VM's process all its tasks. */
static void read_proc_totals(const struct host *host, struct proc_view *ret)
{
    double process_s[ENTITIES_SIM] = {0};

    *ret = (struct proc_view){.seconds = (double)host->time_us / 1e6};
    for (unsigned i = 0; i < host->n_tasks; i++) {
        const struct task *task = &host->tasks[i];
        double run_s = task->exec_us / 1e6;

        process_s[task->entity] += task->entity == 0 ? jiffies_s(run_s) : run_s;
    }
    for (unsigned e = 0; e < host->n_entities; e++)
        ret->process_s[e] = jiffies_s(process_s[e]);
    for (unsigned s = 0; s < host->machine->sockets; s++)
        ret->busy_s[s] = jiffies_s(host->busy_ticks[s] / HZ);
    ret->interrupt_s = jiffies_s(host->interrupt_ticks / HZ);
}

static void read_threads(struct observer *observer, struct proc_view *ret)
{
    const struct host *host = observer->host;

    for (unsigned i = 0; i < host->n_tasks; i++) {
        const struct task *task = &host->tasks[i];
        double now_s = jiffies_s(task->exec_us / 1e6);
        unsigned socket = task->cpu >= 0 ? host_socket_of(host, task->cpu) : 0;

        ret->thread_s[task->entity][socket] += now_s - observer->task_s[i];
        observer->task_s[i] = now_s;
    }
}

static void read_proc(struct observer *observer, struct proc_view *ret)
{
    struct proc_view now;

    read_proc_totals(observer->host, &now);
    *ret = now;
    ret->seconds -= observer->proc.seconds;
    ret->interrupt_s -= observer->proc.interrupt_s;
    for (unsigned e = 0; e < ENTITIES_SIM; e++)
        ret->process_s[e] -= observer->proc.process_s[e];
    for (unsigned s = 0; s < SOCKETS_SIM; s++)
        ret->busy_s[s] -= observer->proc.busy_s[s];
    observer->proc = now;
    read_threads(observer, ret);
}

void observer_read(struct observer *observer, struct observation *ret)
{
    read_energy(observer, &ret->sample);
    read_usage(observer, &ret->usage);
    read_proc(observer, &ret->proc);
    observer->time_us = observer->host->time_us;
}
