/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What keeping the ledger costs in each tick, beside what entering an interval does. */

#include <stdlib.h>
#include <unistd.h>

#include "../lib/machine.h"
#include "ledger/ledger_store.h"

#define TICKS 500
#define MEDIAN (TICKS / 2)
#define PERCENT_99 (TICKS / 100 * 99)

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double to_ms(uint64_t time_ns)
{
    return (double)time_ns / (double)NSEC_PER_MSEC;
}

static void print(const char *what, uint64_t *times_ns)
{
    qsort(times_ns, TICKS, sizeof(*times_ns), compare);
    printf("  %s: median %.3f ms, 99 %% below %.3f ms", what, to_ms(times_ns[MEDIAN]),
           to_ms(times_ns[PERCENT_99]));
}

static int run(const char *directory, size_t n_vms)
{
    static uint64_t enter_ns[TICKS], keep_ns[TICKS];
    char state[256];
    const struct ledger_store_config config = {directory, state, {{1}, {1}}};
    struct machine machine;
    struct ledger_store *store;

    snprintf(state, sizeof(state), "%s/state", directory);
    machine_start(&machine, n_vms, "rapl", STATIC_EQUAL);
    if (ledger_store_new(&store, &config) < 0)
        return -1;
    for (int i = 0; i < TICKS; i++) {
        uint64_t start_ns = now_ns(), entered_ns;

        machine_run_tick(&machine);
        entered_ns = now_ns();
        ledger_store_save(store, machine.ledger, &machine.sampler, machine.time_ns);
        enter_ns[i] = entered_ns - start_ns;
        keep_ns[i] = now_ns() - entered_ns;
    }
    printf("%5zu VMs, 4 zones:", n_vms);
    print("enter", enter_ns);
    print("keep", keep_ns);
    printf("\n");
    ledger_store_free(store);
    machine_deinit(&machine);
    return 0;
}

int main(void)
{
    /* Where the daemon's runtime directory is. */
    char directory[] = "/run/virtjoule-bench-XXXXXX", command[64];
    int r = 0;

    if (!mkdtemp(directory)) {
        printf("/run cannot be written\n");
        return 77;
    }
    for (size_t n_vms = 10; n_vms <= 10000 && r == 0; n_vms *= 10)
        r = run(directory, n_vms);
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command) != 0 || r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
