/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * poll-reader FILE MAX_ENERGY_UJ READERS HERTZ SECONDS
 *
 * Reads an energy counter as monitoring tools do, HERTZ times a second by each of
 * READERS threads (0: without a pause), and prints what any of them saw, as
 * JSON. Half of the threads keep the file open, the others open it anew for
 * every read. SIGTERM ends it before the SECONDS are over.
 *
 *   torn          reads that were not digits and one newline, or above the maximum
 *   errors        reads that failed
 *   decreases     values below their predecessor that no wrap explains
 *   wraps         those that a wrap does
 *   zero_windows  pairs of reads a period apart with no energy between them
 *   p50_us, p99_us, longest_ms
 *                 how long a read took, an open included: 50 and 99 % of them, and all
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

#define READERS_MAX 1000
#define DURATIONS 1000000 /* of 1 us each; the last one is for all that are longer */

static const char *path;
static uint64_t max_energy_uj;
static atomic_ulong end_ns;
static uint64_t period_ns;
static atomic_ulong durations[DURATIONS];
static atomic_ulong n_reads, n_torn, n_errors, n_decreases, n_wraps, n_zero_windows, longest_ns;

struct observation {
    bool valid;
    uint64_t energy_uj;
    uint64_t time_ns;
};

static struct observation observe(int fd)
{
    struct observation seen = {.time_ns = now_ns()};
    char text[64];
    ssize_t length = pread(fd, text, sizeof(text), 0);

    atomic_fetch_add(&n_reads, 1);
    if (length < 0)
        atomic_fetch_add(&n_errors, 1);
    else if (length == 0 || text[length - 1] != '\n' ||
             parse_sysfs_u64(text, (size_t)length, &seen.energy_uj) < 0 ||
             seen.energy_uj > max_energy_uj)
        atomic_fetch_add(&n_torn, 1);
    else
        seen.valid = true;
    return seen;
}

static struct observation observe_anew(void)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

    return observe(fd);
}

static void compare(const struct observation *before, const struct observation *now)
{
    if (!before->valid || !now->valid)
        return;
    if (now->energy_uj < before->energy_uj) {
        bool wrap =
            now->energy_uj < max_energy_uj / 10 && before->energy_uj > max_energy_uj / 10 * 9;

        atomic_fetch_add(wrap ? &n_wraps : &n_decreases, 1);
    } else if (now->energy_uj == before->energy_uj &&
               now->time_ns - before->time_ns >= period_ns * 9 / 10) {
        atomic_fetch_add(&n_zero_windows, 1);
    }
}

static void note_duration(unsigned long duration_ns)
{
    unsigned long longest = atomic_load(&longest_ns);
    unsigned long us = duration_ns / NSEC_PER_USEC;

    atomic_fetch_add(&durations[us < DURATIONS ? us : DURATIONS - 1], 1);
    while (duration_ns > longest &&
           !atomic_compare_exchange_weak(&longest_ns, &longest, duration_ns))
        ;
}

static unsigned long percentile_us(unsigned percent)
{
    unsigned long n = atomic_load(&n_reads) * percent / 100, us = 0;

    for (unsigned long seen = 0; us < DURATIONS; us++) {
        seen += atomic_load(&durations[us]);
        if (seen > n)
            break;
    }
    return us;
}

static void *run_reader(void *argument)
{
    uintptr_t number = (uintptr_t)argument;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct observation before = {0};

    while (now_ns() < atomic_load(&end_ns)) {
        uint64_t start_ns = now_ns();
        struct observation now = number % 2 == 0 ? observe(fd) : observe_anew();

        note_duration(now_ns() - start_ns);
        compare(&before, &now);
        before = now;
        if (period_ns > 0)
            usleep((useconds_t)(period_ns / NSEC_PER_USEC));
    }
    return NULL;
}

static void end_now(int number)
{
    atomic_store(&end_ns, 0);
}

int main(int argc, char **argv)
{
    pthread_t threads[READERS_MAX];
    unsigned long readers, hertz, started = 0;

    if (argc != 6)
        return 2;
    path = argv[1];
    max_energy_uj = strtoull(argv[2], NULL, 10);
    readers = strtoul(argv[3], NULL, 10);
    hertz = strtoul(argv[4], NULL, 10);
    period_ns = hertz > 0 ? NSEC_PER_SEC / hertz : 0;
    atomic_store(&end_ns, now_ns() + strtoull(argv[5], NULL, 10) * NSEC_PER_SEC);
    signal(SIGTERM, end_now);
    if (readers > READERS_MAX)
        return 2;
    while (started < readers &&
           /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
           pthread_create(&threads[started], NULL, run_reader, (void *)(uintptr_t)started) == 0)
        started++;
    for (unsigned long i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    printf("{\"readers\": %lu, \"reads\": %lu, \"torn\": %lu, \"errors\": %lu, \"decreases\": %lu, "
           "\"wraps\": %lu, \"zero_windows\": %lu, \"p50_us\": %lu, \"p99_us\": %lu, "
           "\"longest_ms\": %lu}\n",
           started, atomic_load(&n_reads), atomic_load(&n_torn), atomic_load(&n_errors),
           atomic_load(&n_decreases), atomic_load(&n_wraps), atomic_load(&n_zero_windows),
           percentile_us(50), percentile_us(99), atomic_load(&longest_ns) / NSEC_PER_MSEC);
    return 0;
}
