/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verdict.h"

double mean_error(const struct results *results, unsigned contender, enum group group, bool dram)
{
    double sum = 0;
    unsigned n = 0;

    for (size_t i = 0; i < results->n; i++) {
        const struct result *result = &results->scenarios[i];

        if (group != GROUPS && result->scenario->group != group)
            continue;
        if (dram && !result_has_dram(result, contender))
            continue;
        sum += result_error(result, contender, dram);
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

double thesis_sum(const struct result *result)
{
    double sum = 0;

    for (unsigned vm = 1; vm <= result->n_vms; vm++)
        sum += result->thesis_watts[vm];
    return sum;
}

double trace_mean_error(const struct trace_result *result, double from_s)
{
    double sum = 0;

    for (unsigned i = (unsigned)from_s - 1; i < result->n; i++)
        sum += 100 * fabs(result->points[i].learned_watts / result->points[i].static_watts - 1);
    return sum / (result->n - (unsigned)from_s + 1);
}

double trace_unsafe(const struct trace_result *result)
{
    double largest = 0, measured = 0;

    for (unsigned i = LEARN_S - 1; i < result->n; i++) {
        const struct trace_point *point = &result->points[i];

        if (point->state != STATIC_NOT_IDENTIFIABLE)
            return INFINITY;
        largest = fmax(largest, point->learned_watts);
        measured += point->measured_watts / (result->n - LEARN_S + 1);
    }
    return 100 * largest / measured;
}

/* The largest distance from a published point, in its spreads. */
static double farthest_point(const struct results *results)
{
    double farthest = 0;

    for (size_t i = 0; i < results->n; i++) {
        const struct thesis_point *point = results->scenarios[i].scenario->published;

        if (point)
            farthest =
                fmax(farthest, fabs(thesis_sum(&results->scenarios[i]) - point->attributed_watts) /
                                   thesis_spread_watts(point));
    }
    return farthest;
}

static double largest_over_seeds(const struct results *results, enum trace_id trace,
                                 double (*figure)(const struct trace_result *result, double at_s))
{
    double largest = 0;

    for (unsigned seed = 0; seed < results->n_seeds; seed++)
        largest = fmax(largest, figure(&results->traces[trace][seed], LEARN_S));
    return largest;
}

static double late_error(const struct trace_result *result, double at_s)
{
    return trace_mean_error(result, result->n - 1800);
}

static double platform_error(const struct results *results)
{
    double largest = 0;

    for (unsigned i = 0; i < PLATFORM_CASES; i++)
        largest = fmax(largest, results->platform[i].largest_error);
    return largest;
}

size_t verdict_limits(const struct results *results, struct limit ret[LIMITS_MAX])
{
    unsigned known = contender_of_model(MODEL_COUNTERS, STATIC_KNOWN);
    unsigned learned = contender_of_model(MODEL_COUNTERS, STATIC_LEARNER);
    double never_idle = fmax(largest_over_seeds(results, TRACE_NEVER_IDLE, trace_error),
                             largest_over_seeds(results, TRACE_NEVER_IDLE_SERVER, trace_error));
    double unsafe = 0;
    size_t n = 0;

    for (unsigned seed = 0; seed < results->n_seeds; seed++)
        unsafe = fmax(unsafe, trace_unsafe(&results->traces[TRACE_CONSTANT][seed]));
    ret[n++] = (struct limit){"`counters`, static power known: error per VM, package",
                              mean_error(results, known, GROUPS, false), LIMIT_KNOWN, "%"};
    ret[n++] = (struct limit){"`counters`, static power learned: error per VM, package",
                              mean_error(results, learned, GROUPS, false), LIMIT_LEARNED, "%"};
    ret[n++] = (struct limit){"`counters`, static power known: error per VM, DRAM",
                              mean_error(results, known, GROUPS, true), LIMIT_DRAM, "%"};
    ret[n++] = (struct limit){"thesis: farthest of the published points, in its reported spread",
                              farthest_point(results), 1, "spreads"};
    ret[n++] = (struct limit){"load 20 to 90 %, never idle: error of the static power learned in "
                              "ten minutes, worst seed",
                              never_idle, LIMIT_STATIC, "%"};
    ret[n++] = (struct limit){
        "cooling that fails: mean error of the learned static power in the last half hour, worst "
        "seed",
        largest_over_seeds(results, TRACE_DRIFT, late_error), LIMIT_STATIC, "%"};
    ret[n++] = (struct limit){"constant load: said to be not identifiable, and static power taken "
                              "as part of the measured",
                              unsafe, 100, "%"};
    ret[n++] =
        (struct limit){"whole machine, by a meter in steps of 1 W that is up to 20 s late and "
                       "updates every 1 to 30 s: error of the worst VM with the worst meter",
                       platform_error(results), LIMIT_PLATFORM, "%"};
    return n;
}
