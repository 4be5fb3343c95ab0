/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * laboratory --quick | [--report DOCS --data DIR]
 *
 * Runs the scenarios and the traces, or few of them but for every limit, says which limits are
 * kept, and writes DOCS/accuracy.md, with other seeds beside, and what plots.gp plots. Exits 1 when
 * a limit is broken.
 */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "report.h"
#include "util/log.h"
#include "verdict.h"

/* Seeds that nothing was tried on before they were first reported. */
static const uint64_t check_seeds[] = {11, 12};
#define CHECKS (sizeof(check_seeds) / sizeof(check_seeds[0]))

static void run(struct results *results, bool quick, uint64_t seed)
{
    const struct laboratory laboratory = {
        .history_s = 600, .window_s = quick ? 60 : 300, .seed = seed};

    *results = (struct results){
        .seed = seed,
        .n_seeds = quick ? 1 : TRACE_SEEDS,
        .scenarios = calloc(n_scenarios, sizeof(*results->scenarios)),
        .traces = calloc(TRACES, sizeof(*results->traces)),
    };
    require(results->scenarios && results->traces, "out of memory");
    for (size_t i = 0; i < n_scenarios; i++)
        if (!quick || scenarios[i].quick)
            laboratory_run(&laboratory, &scenarios[i], &results->scenarios[results->n++]);
    for (unsigned trace = 0; trace < TRACES; trace++) {
        if (quick && trace == TRACE_CONSTANT_LATER)
            continue; /* shown, but not judged */
        for (unsigned i = 0; i < results->n_seeds; i++)
            trace_run(&traces[trace], seed + i, &results->traces[trace][i]);
    }
    platform_run(seed, results->platform);
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
    struct results results, checks[CHECKS];
    bool is_quick = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'q')
            is_quick = true;
        else if (option == 'r')
            docs = optarg;
        else if (option == 'd')
            data = optarg;
        else
            return 2;
    }
    if (is_quick && docs)
        return 2;
    log_set_max_level(LOG_ERR);
    scenarios_init();
    run(&results, is_quick, 1);
    if (docs && data) {
        for (size_t i = 0; i < CHECKS; i++)
            run(&checks[i], false, check_seeds[i]);
        report_write(&results, checks, CHECKS, docs);
        report_write_data(&results, data);
    }
    return judge(&results);
}
