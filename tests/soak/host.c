/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/machine.h"
#include "discovery/vm_group.h"
#include "discovery/vm_merge.h"
#include "discovery/vm_uuid.h"
#include "util/clock.h"

#define MEMORY_BYTES (UINT64_C(512) << 20) /* a vCPU's worth */
#define WATTS_PER_CPU 2.0

/* By slot of machine_zones. */
static const double static_watts[HOST_ZONES] = {41, 6, 38, 5, 130};

static uint64_t below(struct host *host, uint64_t bound)
{
    return random_next(&host->random) % bound;
}

struct host *host_new(uint64_t seed)
{
    struct host *host = calloc(1, sizeof(*host));

    require(host != NULL);
    host->random.state = seed;
    host->time_ns = 1000 * NSEC_PER_SEC;
    host->last_pid = 1000;
    for (uint32_t i = 0; i < GUESTS; i++) {
        struct guest *guest = &host->guests[i];
        uint64_t order = random_next(&host->random);

        memcpy(guest->uuid, &order, sizeof(order));
        memcpy(guest->uuid + 12, &i, sizeof(i));
        snprintf(guest->name, sizeof(guest->name), i % 7 ? "vm%u" : "../\n%u\xff", i % 5000);
        guest->vcpus = (unsigned)below(host, 8) + 1;
    }
    for (size_t z = 0; z < HOST_ZONES; z++)
        host->zones[z].zone = machine_zones.zones[z];
    host->zones[PSYS].absent_until = ZONE_PSYS_FROM;
    return host;
}

uint32_t host_guest_of(const uuid_t uuid)
{
    uint32_t i;

    memcpy(&i, uuid + 12, sizeof(i));
    return i;
}

bool host_is_quiet(const struct host *host)
{
    return host->tick % TICKS_PER_DAY >= TICKS_PER_DAY - QUIET_TICKS;
}

/* Coming and going. */

static uint64_t life_ticks(struct host *host)
{
    uint64_t kind = below(host, 100);
    double mean = kind < 70 ? 40 : kind < 99 ? 300 : 7200;

    return 1 + (uint64_t)random_exponential(&host->random, mean);
}

static void start(struct host *host, uint32_t i, uint64_t until)
{
    struct guest *guest = &host->guests[i];

    guest->pid = host->last_pid += 3;
    guest->start_ticks = host->time_ns / 10000000;
    guest->until = until;
    guest->load = (unsigned)below(host, 100);
    host->running[host->n_running++] = i;
    host->lives++;
    host->changed = true;
}

static void end_lives(struct host *host)
{
    size_t n = 0;

    host->n_ended = 0;
    for (size_t r = 0; r < host->n_running; r++) {
        uint32_t i = host->running[r];

        if (host->guests[i].until > host->tick && (!host_is_quiet(host) || i < LASTING)) {
            host->running[n++] = i;
            continue;
        }
        host->guests[i].pid = 0;
        host->ended[host->n_ended++] = i;
        host->changed = true;
    }
    host->n_running = n;
}

/* Evenly over time; what the quiet hours kept back comes at once after them. */
static void start_lives(struct host *host)
{
    uint64_t due = LIVES * (host->tick + 1) / (TICKS - QUIET_TICKS);

    if (host_is_quiet(host))
        return;
    while (host->lives < LIVES && (host->lives < due || host->lives < LASTING)) {
        uint32_t i = host->lives < LASTING ? (uint32_t)host->lives : (uint32_t)below(host, GUESTS);

        /* Every other one is one that ended lately. */
        if (i >= LASTING && host->n_ended > 0 && i % 2)
            i = host->ended[0];
        if (host->guests[i].pid == 0)
            start(host, i, i < LASTING ? UINT64_MAX : host->tick + life_ticks(host));
    }
    if (host->n_running > host->most_running)
        host->most_running = host->n_running;
}

/* Energy. */

static void advance_zone(struct host *host, size_t z, double busy_cpus, double seconds)
{
    struct host_zone *zone = &host->zones[z];
    double part = zone->zone.kind == ZONE_DRAM ? 0.1 : zone->zone.kind == ZONE_PSYS ? 2.5 : 1;
    double watts =
        static_watts[z] + part * busy_cpus * WATTS_PER_CPU + random_uniform(&host->random, 0, 3);
    uint64_t before = host_read(host, z).energy_uj;

    zone->total_uj += (uint64_t)(watts * seconds * 1e6);
    host->wraps += host_read(host, z).energy_uj < before;
    if (host->tick >= zone->absent_until && below(host, 5000) == 0) {
        zone->absent_until = host->tick + 1 + below(host, 60);
        host->absences++;
    }
}

void host_step(struct host *host)
{
    double seconds = 1, busy_cpus[2] = {0, 0};

    host->tick++;
    host->changed = false;
    if (below(host, 1000) == 0) {
        seconds += (double)(1 + below(host, 10));
        host->late_ticks++;
    }
    host->time_ns += (uint64_t)(seconds * 1e9);
    end_lives(host);
    start_lives(host);
    for (size_t r = 0; r < host->n_running; r++) {
        const struct guest *guest = &host->guests[host->running[r]];

        busy_cpus[host->running[r] % 2] += guest->vcpus * guest->load / 100.0;
    }
    for (size_t z = 0; z < HOST_ZONES; z++)
        advance_zone(host, z, busy_cpus[z / 2 % 2], seconds);
}

void host_reboot(struct host *host)
{
    host->time_ns = 1000 * NSEC_PER_SEC;
    for (size_t z = 0; z < HOST_ZONES; z++)
        host->zones[z].boot_uj = host->zones[z].total_uj;
}

bool host_zone_is_there(const struct host *host, size_t zone)
{
    return host->tick >= host->zones[zone].absent_until;
}

struct reading host_read(const struct host *host, size_t zone)
{
    const struct host_zone *z = &host->zones[zone];

    return (struct reading){
        .valid = host_zone_is_there(host, zone),
        .energy_uj = (z->total_uj - z->boot_uj) % z->zone.max_energy_uj,
        .time_ns = host->time_ns,
    };
}

/* What the daemon sees of the VMs. */

static void use(struct host *host, struct usage *usage, uint32_t i)
{
    const struct guest *guest = &host->guests[i];
    struct usage_amount *amount = usage_find_amount(usage, guest->uuid);

    amount->sockets[i % 2].cpu_ns =
        guest->vcpus * guest->load * (UINT64_C(9900000) + below(host, 100000));
    amount->sockets[i % 2].memory_bytes = guest->vcpus * MEMORY_BYTES;
    amount->io_bytes = below(host, 1 << 20);
}

void host_usage(struct host *host, struct usage *ret)
{
    static uuid_t uuids[2 * GUESTS];
    size_t n = 0;

    *ret = (struct usage){.n_sockets = 2};
    for (size_t r = 0; r < host->n_running; r++)
        uuid_copy(uuids[n++], host->guests[host->running[r]].uuid);
    for (size_t e = 0; e < host->n_ended; e++)
        uuid_copy(uuids[n++], host->guests[host->ended[e]].uuid);
    require(usage_init_vms(ret, uuids, n) == 0);
    for (size_t r = 0; r < host->n_running; r++)
        use(host, ret, host->running[r]);
    for (size_t e = 0; e < host->n_ended; e++)
        use(host, ret, host->ended[e]);
    for (unsigned s = 0; s < 2; s++)
        ret->host.sockets[s].cpu_ns = below(host, 300000000);
}

/* A guest's QEMU and its virtiofsd, as a look at /proc finds them. */
static void make_processes(const struct guest *guest, struct process processes[2])
{
    char group[128];

    snprintf(group, sizeof(group), "/machine.slice/machine-qemu\\x2d%d.scope", guest->pid);
    processes[0] = (struct process){
        .id = {guest->pid, guest->start_ticks},
        .kind = PROCESS_QEMU,
        .cmdline = calloc(1, sizeof(struct qemu_cmdline)),
        .vcpus = guest->vcpus,
        .machine = strdup(group),
    };
    processes[1] = (struct process){
        .id = {guest->pid + 1, guest->start_ticks},
        .kind = PROCESS_HELPER,
        .machine = strdup(group),
    };
    require(processes[0].cmdline && processes[0].machine && processes[1].machine);
    uuid_copy(processes[0].cmdline->uuid, guest->uuid);
    memcpy(processes[0].cmdline->name, guest->name, sizeof(guest->name));
}

static int compare_domains(const void *a, const void *b)
{
    return uuid_compare(((const struct libvirt_domain *)a)->uuid,
                        ((const struct libvirt_domain *)b)->uuid);
}

static void list_domains(const struct host *host, struct libvirt_domain domains[DEFINED])
{
    for (size_t i = 0; i < DEFINED; i++) {
        domains[i] = (struct libvirt_domain){.defined = true, .vcpus = host->guests[i].vcpus};
        uuid_copy(domains[i].uuid, host->guests[i].uuid);
        memcpy(domains[i].name, host->guests[i].name, sizeof(domains[i].name));
    }
    qsort(domains, DEFINED, sizeof(*domains), compare_domains);
}

void host_discover(const struct host *host, struct vm_table *ret)
{
    static const struct vm_uuid_spaces spaces;
    size_t n = 2 * host->n_running;
    struct process *processes = calloc(n + 1, sizeof(*processes));
    struct libvirt_domain domains[DEFINED];
    const char *shared_path;
    struct vm_table found;

    require(processes != NULL);
    for (size_t r = 0; r < host->n_running; r++)
        make_processes(&host->guests[host->running[r]], &processes[2 * r]);
    list_domains(host, domains);
    require(vm_uuids_assign(&spaces, processes, n, NULL) == 0);
    require(vm_group_processes(processes, n, &found, &shared_path) == 0);
    require(found.n == host->n_running);
    require(vm_merge(&found, domains, DEFINED, true, ret) == 0);
    vm_table_deinit(&found);
    for (size_t i = 0; i < n; i++)
        process_deinit(&processes[i]);
    free(processes);
}
