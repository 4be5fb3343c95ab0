/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#define THESIS_NODES 4

/** One experiment of the thesis: watts are means of 5 minutes, with their standard deviations. */
struct thesis_point {
    const char *name;
    unsigned workers[THESIS_NODES];   /* in the cluster's VMs */
    unsigned container[THESIS_NODES]; /* of the noise containers in the same VMs */
    unsigned neighbours;              /* VMs beside the cluster's */
    unsigned neighbour_workers;       /* in each of them */
    double ipmi_watts;                /* the whole machine, as its BMC tells it */
    double rapl_watts, rapl_sigma;
    double attributed_watts, attributed_sigma; /* all VMs together */
    double vm_watts[2 * THESIS_NODES];         /* each VM: nodes, then neighbours; 0: not told */
};

/** Power with no VM running. */
#define THESIS_STATIC_WATTS 80.0

extern const struct thesis_point thesis_points[];
extern const size_t n_thesis_points;

/**
 * How far a repetition may be off: two standard deviations, of the package
 * power, its attribution, the static power and the idle VMs' power together,
 * each as the thesis reports it.
 */
double thesis_spread_watts(const struct thesis_point *point);
