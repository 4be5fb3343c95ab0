/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "report.h"

static FILE *open_data(const char *directory, const char *name)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s.dat", directory, name);
    file = fopen(path, "we");
    require(file, "cannot write the data of the plots");
    return file;
}

/* One line per contender: its name and its mean error over all scenarios. */
static void write_contenders(const struct results *results, const char *directory)
{
    FILE *file = open_data(directory, "contenders");

    for (unsigned model = 0; model < MODELS; model++) {
        fprintf(file, "\"%s, known\" %.4f 0\n", model_names[model],
                mean_error(results, contender_of_model(model, STATIC_KNOWN), GROUPS, false));
        fprintf(file, "\"%s, learned\" %.4f 0\n", model_names[model],
                mean_error(results, contender_of_model(model, STATIC_LEARNER), GROUPS, false));
    }
    for (unsigned peer = 0; peer < PEERS; peer++)
        fprintf(file, "\"%s\" %.4f 1\n", peers[peer].name,
                mean_error(results, contender_of_peer(peer), GROUPS, false));
    fclose(file);
}

static void write_groups(const struct results *results, const char *directory)
{
    FILE *file = open_data(directory, "groups");

    for (unsigned group = 0; group < GROUPS; group++)
        fprintf(file, "\"%s\" %.4f %.4f %.4f %.4f %.4f\n", group_names[group],
                mean_error(results, contender_of_model(MODEL_COUNTERS, STATIC_KNOWN), group, false),
                mean_error(results, contender_of_model(MODEL_CPUTIME, STATIC_KNOWN), group, false),
                mean_error(results, contender_of_peer(PEER_THESIS), group, false),
                mean_error(results, contender_of_peer(PEER_KEPLER), group, false),
                mean_error(results, contender_of_peer(PEER_SCAPHANDRE), group, false));
    fclose(file);
}

static unsigned workers(const struct thesis_point *point)
{
    unsigned sum = point->neighbours * point->neighbour_workers;

    for (unsigned i = 0; i < THESIS_NODES; i++)
        sum += point->workers[i] + point->container[i];
    return sum;
}

static void write_thesis(const struct results *results, const char *directory)
{
    FILE *sums = open_data(directory, "thesis"), *vms = open_data(directory, "thesis-vms");

    for (size_t i = 0; i < results->n; i++) {
        const struct result *result = &results->scenarios[i];
        const struct thesis_point *point = result->scenario->published;

        if (!point)
            continue;
        fprintf(sums, "%u %.4f %.4f %.4f\n", workers(point), point->attributed_watts,
                thesis_spread_watts(point), thesis_sum(result));
        for (unsigned vm = 0; vm < 2 * THESIS_NODES && point->vm_watts[vm] > 0; vm++)
            fprintf(vms, "%.4f %.4f\n", point->vm_watts[vm], result->thesis_watts[vm + 1]);
    }
    fclose(sums);
    fclose(vms);
}

static void write_traces(const struct results *results, const char *directory)
{
    for (unsigned trace = 0; trace < TRACES; trace++) {
        const struct trace_result *result = &results->traces[trace][0];
        unsigned every = result->n > 2000 ? 20 : 5;
        char name[32];
        FILE *file;

        snprintf(name, sizeof(name), "trace-%u", trace);
        file = open_data(directory, name);
        for (unsigned i = 0; i < result->n; i += every)
            fprintf(file, "%.1f %.4f %.4f\n", result->points[i].seconds / 60,
                    result->points[i].measured_watts, result->points[i].static_watts);
        fclose(file);
        snprintf(name, sizeof(name), "learned-%u", trace);
        file = open_data(directory, name);
        for (unsigned i = 0; i < result->n; i += every)
            if (result->points[i].known)
                fprintf(file, "%.1f %.4f\n", result->points[i].seconds / 60,
                        result->points[i].learned_watts);
        fclose(file);
    }
}

void report_write_data(const struct results *results, const char *directory)
{
    write_contenders(results, directory);
    write_groups(results, directory);
    write_thesis(results, directory);
    write_traces(results, directory);
}
