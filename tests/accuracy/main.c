/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>

#include "laboratory.h"
#include "util/log.h"

int main(int argc, char **argv)
{
    struct laboratory laboratory = {.history_s = 600, .window_s = 120, .seed = 1};
    static struct result result;
    log_set_max_level(LOG_ERR);
    scenarios_init();
    for (size_t i = 0; i < n_scenarios; i++) {
        clock_t t = clock();
        laboratory_run(&laboratory, &scenarios[i], &result);
        printf("%-22.22s %-44.44s", group_names[scenarios[i].group], scenarios[i].name);
        for (unsigned c = 0; c < CONTENDERS; c++)
            printf(" %6.2f", result_error(&result, c, false));
        printf(" | static %.1f learned %.1f", result.static_watts, result.learned_watts);
        if (machines[scenarios[i].machine].has_dram) {
            printf(" | DRAM");
            for (unsigned c = 0; c < CONTENDERS; c++)
                printf(" %6.2f", result_error(&result, c, true));
        }
        if (scenarios[i].published) {
            double w = 0;
            for (unsigned e = 1; e <= result.n_vms; e++)
                w += result.thesis_watts[e];
            printf(" | pub %.1f sim %.1f spread %.1f rapl %.1f/%.1f",
                   scenarios[i].published->attributed_watts, w,
                   thesis_spread_watts(scenarios[i].published), scenarios[i].published->rapl_watts,
                   result.measured_watts);
        }
        printf(" %.1fs\n", (double)(clock() - t) / CLOCKS_PER_SEC);
    }
    return 0;
}
