/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * laboratory [--quick] [--report DOCS --data DIR]
 *
 * Runs the scenarios and the traces, says which limits are kept, and writes
 * DOCS/accuracy.md and what plots.gp plots. Exits 1 when a limit is broken.
 */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "report.h"
#include "util/log.h"
#include "verdict.h"

static const struct laboratory full = {.history_s = 600, .window_s = 300, .seed = 1};
static const struct laboratory quick = {.history_s = 600, .window_s = 60, .seed = 1};

static void run_scenarios(struct results *results)
{
    for (size_t i = 0; i < n_scenarios; i++)
        if (!results->quick || scenarios[i].quick)
            laboratory_run(results->quick ? &quick : &full, &scenarios[i],
                           &results->scenarios[results->n++]);
}

static void run_traces(struct results *results)
{
    for (unsigned trace = 0; trace < TRACES; trace++)
        for (unsigned seed = 0; seed < results->n_seeds; seed++)
            trace_run(&traces[trace], seed + 1, &results->traces[trace][seed]);
}

static int judge(const struct results *results)
{
    struct limit limits[LIMITS_MAX];
    size_t n = verdict_limits(results, limits);
    int status = EXIT_SUCCESS;

    for (size_t i = 0; i < n; i++) {
        bool kept = limits[i].value <= limits[i].limit;

        printf("%s %7.2f of %g %s: %s\n", kept ? "ok  " : "FAIL", limits[i].value, limits[i].limit,
               limits[i].unit, limits[i].what);
        if (!kept)
            status = EXIT_FAILURE;
    }
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"quick", no_argument, NULL, 'q'},
                                            {"report", required_argument, NULL, 'r'},
                                            {"data", required_argument, NULL, 'd'},
                                            {0}};
    const char *docs = NULL, *data = NULL;
    struct results results = {0};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'q')
            results.quick = true;
        else if (option == 'r')
            docs = optarg;
        else if (option == 'd')
            data = optarg;
        else
            return 2;
    }
    log_set_max_level(LOG_ERR);
    scenarios_init();
    results.scenarios = calloc(n_scenarios, sizeof(*results.scenarios));
    results.traces = calloc(TRACES, sizeof(*results.traces));
    require(results.scenarios && results.traces, "out of memory");
    results.n_seeds = results.quick ? 1 : TRACE_SEEDS;
    run_scenarios(&results);
    run_traces(&results);
    if (docs && data) {
        report_write(&results, docs);
        report_write_data(&results, data);
    }
    return judge(&results);
}
