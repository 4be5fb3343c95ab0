/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A process that uses a known amount of CPU time and, run from a file of
 * QEMU's name with QEMU's arguments (which it ignores), looks like a VM.
 *
 * FAKE_QEMU_DUTY     percent of one CPU to use, 0 to 100
 * FAKE_QEMU_THREADS  "long": one thread does it; "short": each period's work is
 *                    done by a thread of its own that then ends
 * FAKE_QEMU_SLEEPERS number of threads that do nothing
 * FAKE_QEMU_COMM     name of all threads, the file's if not given
 *
 * It obeys lines on standard input and ends at their end:
 *
 *     cpu   prints the CPU time of the process so far, and what of it was used
 *           before it began, by the shell or Python that became it; nanoseconds
 *     stop  stops working, then prints the same
 */

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "util/clock.h"

#define PERIOD_NS (50 * NSEC_PER_MSEC)

static atomic_bool stopped;
static uint64_t work_ns; /* per period */
static uint64_t begun_ns;

/* Measured by the thread's own CPU time, so that competition delays work but loses none. */
static void *burn_period(void *unused)
{
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + work_ns;

    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end && !atomic_load(&stopped))
        ;
    return NULL;
}

static void sleep_until(uint64_t time_ns)
{
    struct timespec t = {
        .tv_sec = (time_t)(time_ns / NSEC_PER_SEC),
        .tv_nsec = (long)(time_ns % NSEC_PER_SEC),
    };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void run_period(bool short_threads)
{
    pthread_t thread;

    if (!short_threads)
        burn_period(NULL);
    else if (pthread_create(&thread, NULL, burn_period, NULL) == 0)
        pthread_join(thread, NULL);
}

static void *work(void *short_threads)
{
    uint64_t next = now_ns();

    while (!atomic_load(&stopped)) {
        run_period(short_threads != NULL);
        next += PERIOD_NS;
        if (next < now_ns())
            next = now_ns(); /* kept from the CPU: the duty is of the time it gets */
        else
            sleep_until(next);
    }
    return NULL;
}

static void *sleep_for_ever(void *unused)
{
    for (;;)
        pause();
    return NULL;
}

static bool start_sleepers(unsigned long n)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
    while (n > 0 && pthread_create(&thread, &attributes, sleep_for_ever, NULL) == 0)
        n--;
    pthread_attr_destroy(&attributes);
    return n == 0;
}

static void report(void)
{
    printf("%llu %llu\n", (unsigned long long)clock_ns(CLOCK_PROCESS_CPUTIME_ID),
           (unsigned long long)begun_ns);
    fflush(stdout);
}

int main(void)
{
    const char *duty = getenv("FAKE_QEMU_DUTY");
    const char *threads = getenv("FAKE_QEMU_THREADS");
    const char *sleepers = getenv("FAKE_QEMU_SLEEPERS");
    const char *comm = getenv("FAKE_QEMU_COMM");
    bool short_threads = threads && strcmp(threads, "short") == 0;
    pthread_t worker;
    char line[16];
    bool works;

    begun_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    work_ns = PERIOD_NS / 100 * strtoul(duty ? duty : "0", NULL, 10);
    if (comm)
        prctl(PR_SET_NAME, comm);
    if (!start_sleepers(strtoul(sleepers ? sleepers : "0", NULL, 10)))
        return EXIT_FAILURE;
    works = work_ns > 0;
    if (works && pthread_create(&worker, NULL, work, short_threads ? &stopped : NULL) != 0)
        return EXIT_FAILURE;
    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, "stop\n") == 0 && !atomic_exchange(&stopped, true) && works)
            pthread_join(worker, NULL);
        report();
    }
    return EXIT_SUCCESS;
}
