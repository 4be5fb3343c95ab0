/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A zone's static power, learned from how its power follows its load while
 * VMs run: the power at which the relation of the two meets load zero.
 *
 * The relation is P(u) = S + D * f(u). On a load that never reaches zero S is
 * extrapolated, and the curvature of f decides where to; data from 20 % load
 * upwards show the curvature only roughly. So no f is chosen. Many are fitted by weighted
 * least squares: power laws u^a, the form of Fan, Weber and Barroso
 * (estimate.h), and lines with one knee, as SMT and frequency make them. S is
 * the mean over all, each weighed by how well it explains the data and by a
 * prior around the straight line (Bayesian model averaging: Hoeting et al.,
 * Statistical Science 14, 1999). Whatever the data leave open then shows in the
 * uncertainty by itself, up to "not identifiable" on a constant load.
 *
 * The fit is to the robust means of samples with similar load: neither spikes
 * nor a few wrong readings move them. Samples lose weight with age, so
 * that the estimate follows a host that warms up.
 *
 * Until the relation is known, the least power seen is static: a floor. Else VMs would divide
 * the idle power by their CPU time, and each would read its neighbours' from its own counter.
 *
 * On a nearly idle host a floor or a fit that is wrong by a hundredth is wrong by more than
 * all dynamic power: idle VMs would be charged several times what their CPU time costs, or
 * nothing, until a neighbour works, and would see it begin and end. So the static power may
 * drift from its estimate by a twentieth, as temperature makes it do, towards the value at
 * which the interval's load costs what load has cost so far.
 */

#include <stdbool.h>
#include <stdint.h>

#include "baseline/static_power.h"

struct static_estimate {
    enum static_state state; /* not STATIC_FIXED */
    bool known;              /* it has been learned once; else power_uw is the floor, or 0 */
    uint64_t power_uw;       /* never above the lowest power of the last samples */
    uint64_t uncertainty_uw; /* standard uncertainty (one sigma) of power_uw; 0 of a floor */
    int64_t drift_uw;        /* of the last interval, up to a twentieth of power_uw */
};

struct static_learner;

/** @return 0 or -ENOMEM */
int static_learner_new(struct static_learner **ret);
/** NULL is accepted. @return NULL */
struct static_learner *static_learner_free(struct static_learner *learner);

/**
 * Lets a new learner begin with what an earlier one knew. That value holds until the
 * learner has learned by itself, but is never above the lowest power that it sees.
 * @param former  its estimate; the state and the drift do not matter
 */
void static_learner_resume(struct static_learner *learner, const struct static_estimate *former);

/**
 * Takes in one interval. Intervals shorter than a second are added up to one.
 * @param duration_ns  above 0
 * @param load         of the zone, per second in any fixed unit, such as busy cores: what its
 *                     power follows; >= 0
 * @param charged      the same in the unit by which VMs are charged; >= 0
 */
void static_learner_add(struct static_learner *learner, uint64_t energy_uj, uint64_t duration_ns,
                        double load, double charged);

/**
 * The estimate now. It moves towards newly learned values with a time constant
 * of a minute, so that no VM's dynamic power jumps, but falls at once where it
 * would lie above the lowest power.
 */
struct static_estimate static_learner_estimate(const struct static_learner *learner);
