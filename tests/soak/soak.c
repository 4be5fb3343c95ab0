/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The soak: six days at one tick a second in a minute or two. The daemon's own
 * code runs on a simulated host (host.h) in its own time: 100,000 lives of VMs,
 * zones that vanish and come back, counters that wrap, late ticks, restarts of
 * the daemon and of the host.
 *
 * At every tick the rows of every zone add up exactly, to what the counters
 * measured, and no published total is below what was published before. At the
 * end of every day memory and descriptors are what they were.
 *
 * The clock: the product's now_ns() is clock_gettime(CLOCK_MONOTONIC), which
 * the linker wraps (meson.build); so it does the wait for checkpoints.
 */

#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "../lib/control_fixture.h"
#include "../lib/require.h"
#include "daemon.h"
#include "ledger/ledger_writer.h"
#include "publish/exporter.h"
#include "readers.h"
#include "util/clock.h"
#include "util/log.h"

/* On the second and third day; a daemon that runs for days must not grow either. */
#define RESTARTS_FROM TICKS_PER_DAY
#define RESTARTS_UNTIL (3 * TICKS_PER_DAY)
#define RESTART_TICKS 1800
#define REBOOT_RESTARTS 13 /* one of so many restarts is the host's */
#define PUBLISH_TICKS 600  /* metrics and a control request */
#define LIST_TICKS 256
/* The ledger's images have room for up to twice the rows they once had: after restarts it is
   another room. */
#define ROOM_SLACK (UINT64_C(1) << 20)
/* Of a daemon that runs on: two bytes a life. */
#define HEAP_SLACK (UINT64_C(64) << 10)
#define RSS_SLACK (UINT64_C(4) << 20)

/* What was published of a guest. */
struct seen {
    uint32_t id; /* 0: nothing yet */
    uint64_t uj[TREE_ZONES];
    uint64_t tick;
};

/* What a zone must have been measured at. */
struct truth {
    uint64_t measured_uj;
    uint64_t last_uj; /* true total up to which it is in measured_uj */
    bool begun;       /* a reading has been taken that the next one goes on from */
};

struct resources {
    uint64_t heap, rss;
    size_t descriptors;
};

struct soak {
    struct host *host;
    struct soak_daemon daemon;
    struct readers *readers;
    char directory[64];
    struct seen seen[GUESTS];
    uint32_t highest_id;
    struct truth truths[HOST_ZONES];
    struct resources days[DAYS];
    uint64_t daemon_restarts, reboots, most_rows;
};

static const struct host *clock_host;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (clock != CLOCK_MONOTONIC || !clock_host)
        return __real_clock_gettime(clock, ret);
    ret->tv_sec = (time_t)(clock_host->time_ns / NSEC_PER_SEC);
    ret->tv_nsec = (long)(clock_host->time_ns % NSEC_PER_SEC);
    return 0;
}

/* The disk has its own time, and none of it passes here. */
bool __wrap_ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret);
bool __real_ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret);

bool __wrap_ledger_writer_wait(struct ledger_writer *writer, uint64_t timeout_ns, int *ret)
{
    while (!__real_ledger_writer_wait(writer, 0, ret))
        sched_yield();
    return true;
}

/* Conservation. */

static void follow_zones(struct soak *soak)
{
    for (size_t z = 0; z < HOST_ZONES; z++) {
        struct truth *truth = &soak->truths[z];

        if (!host_zone_is_there(soak->host, z))
            continue;
        if (truth->begun)
            truth->measured_uj += soak->host->zones[z].total_uj - truth->last_uj;
        truth->last_uj = soak->host->zones[z].total_uj;
        truth->begun = true;
    }
}

static void check_zone(const struct soak *soak, const struct snapshot *snapshot, size_t slot)
{
    const struct snapshot_zone *zone = &snapshot->zones[slot];
    uint64_t measured_uj = soak->truths[soak->daemon.zone_of_slot[slot]].measured_uj;
    uint64_t sum = zone->host_uj + zone->static_uj + zone->unattributed_uj, of_static = 0;

    for (size_t i = 0; i < snapshot->n_vms; i++) {
        sum += snapshot->vms[i].dynamic_uj[slot];
        of_static += snapshot->vms[i].static_uj[slot];
    }
    require(sum == zone->measured_uj);
    require(of_static <= zone->static_uj);
    /* What is carried: less than a microjoule of each VM and of the host. */
    require(zone->measured_uj <= measured_uj);
    require(measured_uj - zone->measured_uj < snapshot->n_vms + 1);
}

/* Nothing goes backwards. */

static void check_vm(struct soak *soak, const struct snapshot *snapshot,
                     const struct snapshot_vm *vm)
{
    struct seen *seen = &soak->seen[host_guest_of(vm->uuid)];

    if (seen->id != vm->id) {
        /* A new row, and nobody can know the old one any more. */
        require(vm->id > soak->highest_id);
        require(seen->id == 0 || soak->host->tick > seen->tick);
        soak->highest_id = vm->id;
        *seen = (struct seen){.id = vm->id};
    }
    for (unsigned zone = 0; zone < TREE_ZONES; zone++) {
        uint64_t uj = snapshot_energy_uj(snapshot, vm, zone, soak->host->time_ns);

        require(uj >= seen->uj[zone]);
        seen->uj[zone] = uj;
    }
    seen->tick = soak->host->tick;
}

static void check(struct soak *soak)
{
    const struct snapshot *snapshot = snapshot_board_acquire(soak->daemon.board);

    for (size_t slot = 0; slot < snapshot->n_zones; slot++)
        check_zone(soak, snapshot, slot);
    /* In the order of ids: each new one is the highest. */
    for (size_t i = 0; i < snapshot->n_vms; i++) {
        const struct snapshot_vm *vm = &snapshot->vms[snapshot->by_id[i]];

        if (!uuid_is_null(vm->uuid))
            check_vm(soak, snapshot, vm);
    }
    if (snapshot->n_vms > soak->most_rows)
        soak->most_rows = snapshot->n_vms;
    require(snapshot->n_vms <= GUESTS);
    snapshot_board_release(soak->daemon.board, snapshot);
}

/* Restarts. */

/* What had been read of zones that are missing now is not known to the next daemon. */
static void forget_zones(struct soak *soak, bool reboot)
{
    for (size_t z = 0; z < HOST_ZONES; z++)
        if (reboot || daemon_slot(&soak->daemon, z) == soak->daemon.zones.n)
            soak->truths[z].begun = false;
}

static void restart(struct soak *soak)
{
    bool reboot = ++soak->daemon_restarts % REBOOT_RESTARTS == 0;

    daemon_stop(&soak->daemon);
    if (reboot) {
        host_reboot(soak->host);
        soak->reboots++;
    }
    daemon_start(&soak->daemon, soak->host, soak->directory, (unsigned)soak->reboots);
    forget_zones(soak, reboot);
    check(soak);
}

/* The other publishers. */

static void publish(struct soak *soak)
{
    static const char request[] = "{\"command\":\"list\"}\n";
    const struct snapshot *snapshot = snapshot_board_acquire(soak->daemon.board);
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    require(stream && exporter_render(stream, snapshot, "soak") == 0 && fclose(stream) == 0);
    free(text);
    free(control_text(request, sizeof(request) - 1, snapshot, "/vms"));
    snapshot_board_release(soak->daemon.board, snapshot);
}

/* Resources. */

static size_t count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t n = 0;

    require(directory != NULL);
    while (readdir(directory))
        n++;
    closedir(directory);
    return n - 3; /* ".", ".." and the directory itself */
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long size, resident;

    require(file && fscanf(file, "%lu %lu", &size, &resident) == 2);
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void end_day(struct soak *soak, size_t day)
{
    struct mallinfo2 heap = mallinfo2();
    struct resources *now = &soak->days[day];
    size_t last_restarts = RESTARTS_UNTIL / TICKS_PER_DAY;
    const struct resources *first = &soak->days[day > last_restarts ? last_restarts : 0];

    *now = (struct resources){
        .heap = heap.uordblks + heap.hblkhd,
        .rss = resident_bytes(),
        .descriptors = count_descriptors(),
    };
    printf("day %zu: %" PRIu64 " lives, %" PRIu64 " ids, heap %" PRIu64 " kB, resident %" PRIu64
           " kB, %zu descriptors\n",
           day + 1, soak->host->lives, (uint64_t)soak->highest_id, now->heap >> 10, now->rss >> 10,
           now->descriptors);
    fflush(stdout);
    require(now->descriptors == first->descriptors);
    require(now->heap <= first->heap + (day > last_restarts ? HEAP_SLACK : ROOM_SLACK));
    require(now->rss <= first->rss + RSS_SLACK);
}

/* The run. */

static void tick(struct soak *soak)
{
    struct host *host = soak->host;

    host_step(host);
    follow_zones(soak);
    daemon_tick(&soak->daemon, host);
    check(soak);
    host->time_ns += random_next(&host->random) % (NSEC_PER_SEC / 2);
    readers_run(soak->readers, &soak->daemon, host);
    if (host->tick % LIST_TICKS == 0)
        readers_list(&soak->daemon);
    if (host->tick % PUBLISH_TICKS == 0)
        publish(soak);
    if (host->tick >= RESTARTS_FROM && host->tick < RESTARTS_UNTIL && !host_is_quiet(host) &&
        host->tick % RESTART_TICKS == 0)
        restart(soak);
}

static void print_summary(const struct soak *soak)
{
    const struct host *host = soak->host;

    printf("%" PRIu64 " ticks, %" PRIu64 " late; %" PRIu64
           " lives of %d guests, up to %zu at once; "
           "%" PRIu32 " ids, up to %" PRIu64 " rows\n",
           host->tick, host->late_ticks, host->lives, GUESTS, host->most_running, soak->highest_id,
           soak->most_rows);
    printf("%" PRIu64 " wraps, %" PRIu64 " absences of zones, %" PRIu64 " restarts, %" PRIu64
           " of them reboots; %" PRIu64 " values read, %" PRIu64 " reads of VMs that had gone\n",
           host->wraps, host->absences, soak->daemon_restarts, soak->reboots,
           readers_reads(soak->readers), readers_stale(soak->readers));
    for (size_t z = 0; z < HOST_ZONES; z++)
        printf("%s: %" PRIu64 " uJ measured, all accounted for\n", host->zones[z].zone.name,
               soak->truths[z].measured_uj);
}

static void remove_directory(const char *path)
{
    char command[96];

    snprintf(command, sizeof(command), "rm -r '%s'", path);
    require(system(command) == 0);
}

/* @param argv  maybe a seed, for another course of events */
int main(int argc, char *argv[])
{
    static struct soak soak;

    log_set_max_level(LOG_ERR);
    /* Where there is one, a file system without a disk: a checkpoint comes every few ms. */
    snprintf(soak.directory, sizeof(soak.directory), "%s/virtjoule-soak-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    require(mkdtemp(soak.directory) != NULL);
    soak.host = host_new(argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    clock_host = soak.host;
    soak.readers = readers_new();
    daemon_start(&soak.daemon, soak.host, soak.directory, 0);
    while (soak.host->tick < TICKS) {
        tick(&soak);
        if ((soak.host->tick + 1) % TICKS_PER_DAY == 0)
            end_day(&soak, soak.host->tick / TICKS_PER_DAY);
    }
    print_summary(&soak);
    daemon_stop(&soak.daemon);
    readers_free(soak.readers);
    free(soak.host);
    remove_directory(soak.directory);
    return 0;
}
