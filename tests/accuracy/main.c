/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "laboratory.h"
#include "trace.h"
#include "util/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>
static struct trace_result result;
int main(int argc, char **argv)
{
    log_set_max_level(LOG_ERR);
    for (int t = 0; t < TRACES; t++)
        for (int seed = 1; seed <= 3; seed++) {
            clock_t c = clock();
            trace_run(&traces[t], seed, &result);
            printf("%-40s seed %d", traces[t].name, seed);
            for (unsigned s = 300; s <= result.n; s += result.n > 2000 ? 600 : 300) {
                struct trace_point *p = &result.points[s - 1];
                printf(" %.1f/%.1f(%s)", p->learned_watts, p->static_watts,
                       baseline_state_to_string(p->state));
            }
            printf(" err600 %.2f max after %.2f %.1fs\n", trace_error(&result, 600),
                   trace_largest_error(&result, 600), (double)(clock() - c) / CLOCKS_PER_SEC);
        }
}
