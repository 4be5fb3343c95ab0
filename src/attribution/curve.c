/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Package, core, uncore and psys energy by a concave power curve.
 *
 * A socket's dynamic power grows less than its load: P(u) = u^g, 0 < g <= 1.
 * What is one entity's part of P when it adds x_i to the load? Stacking the
 * entities on the curve one after the other gives the first the steep part.
 * The Shapley value is the mean over all orders, and the only division that
 * sums to P, treats equals alike, gives nothing for nothing, and adds up over
 * sums of curves (Shapley, "A Value for n-Person Games", 1953). As P is a
 * power of u the shares depend on the ratios of the loads only: no capacity is
 * needed. They lie between those by load (g = 1) and equal ones (g = 0), and
 * come to those by load when every entity is small.
 *
 * The normalised power x_i^g / sum x^g is order-free as well, and simpler. It is
 * not used, because its shares depend on how finely the rest is cut: a VM with
 * half the load beside fifty that share the other half gets 6 % at g = 0.3,
 * where the Shapley value gives 30 % (the model's test computes both).
 *
 * Exactly, for any number of entities, without going through orders: with each
 * other entity present with probability q (Owen, "Multilinear Extensions of
 * Games", Management Science 18, 1972)
 *
 *     phi_i = integral over q in [0, 1] of E[P(x_i + X) - P(X)]
 *
 * and with u^g = c * integral over s > 0 of (1 - e^(-s u)) s^(-1-g), where
 * c = g / Gamma(1 - g), the expectation is a product: with a_j = 1 - e^(-s x_j)
 *
 *     phi_i = c * integral of s^(-1-g) a_i prod_{j != i} (1 - q a_j) dq ds
 *
 * The integrals are sums over fixed nodes. In s: the trapezoidal rule in log s,
 * which is exact but for 10^-6 at this step; beyond the nodes the integrand is
 * a power of s, and the rest of the sum a geometric series. In q: Gauss-Legendre
 * nodes, squared to be dense near 0, where the product of many entities lives.
 * The shares are within 10^-6 of the enumeration of all subsets, for ten entities
 * and for a thousand of two kinds, in time that grows with their number only.
 */

#include <errno.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_integration.h>
#include <math.h>

#include "attribution/weights.h"

/* s runs over 2^(STEP k). Down to 2^-16.5 everything is linear in the loads; at 2^45 all loads
   down to 2^-40 of the sum, the resolution of weights, are saturated. */
#define STEP 0.75
#define FIRST (-22)
#define S_NODES 83
#define Q_NODES 24

struct curve_model {
    struct attribution_model head;
    double s[S_NODES], s_weights[S_NODES];
    double low_tail;  /* the part of each unit of load from below the nodes of s */
    double high_tail; /* the part of all entities together from above the nodes */
    double q[Q_NODES], q_weights[Q_NODES];
};

/* An interval's integrand at all nodes, but for the factor a_i / (1 - q a_i). */
struct integrand {
    double products[S_NODES][Q_NODES];
    double saturated; /* number of entities that are saturated at the last node of s */
};

static void set_s_nodes(struct curve_model *curve)
{
    double g = curve->head.options.curve_exponent;
    double measure = g / tgamma(1 - g) * STEP * M_LN2; /* c ds/s at every node */

    for (int k = 0; k < S_NODES; k++) {
        curve->s[k] = exp2(STEP * (FIRST + k));
        curve->s_weights[k] = measure * pow(curve->s[k], -g);
    }
    curve->low_tail = measure * pow(curve->s[0], 1 - g) / expm1(STEP * M_LN2 * (1 - g));
    curve->high_tail = measure * pow(curve->s[S_NODES - 1], -g) / expm1(STEP * M_LN2 * g);
}

static int set_q_nodes(struct curve_model *curve)
{
    gsl_error_handler_t *handler = gsl_set_error_handler_off(); /* the default one aborts */
    gsl_integration_glfixed_table *table = gsl_integration_glfixed_table_alloc(Q_NODES);

    gsl_set_error_handler(handler);
    if (!table)
        return -ENOMEM;
    for (unsigned i = 0; i < Q_NODES; i++) {
        double root, weight;

        gsl_integration_glfixed_point(0, 1, i, &root, &weight, table);
        curve->q[i] = root * root;
        curve->q_weights[i] = 2 * weight * root; /* dq = 2 root droot */
    }
    gsl_integration_glfixed_table_free(table);
    return 0;
}

static void multiply(const struct curve_model *curve, struct integrand *integrand, double load)
{
    for (unsigned k = 0; k < S_NODES; k++) {
        double a = -expm1(-curve->s[k] * load);

        for (unsigned m = 0; m < Q_NODES; m++)
            integrand->products[k][m] *= 1 - curve->q[m] * a;
    }
    integrand->saturated += -expm1(-curve->s[S_NODES - 1] * load);
}

/* The Shapley value of a load, in parts of the whole. */
static double shapley_value(const struct curve_model *curve, const struct integrand *integrand,
                            double load)
{
    double saturation = -expm1(-curve->s[S_NODES - 1] * load);
    double sum = curve->low_tail * load + curve->high_tail * saturation / integrand->saturated;

    for (unsigned k = 0; k < S_NODES; k++) {
        double a = -expm1(-curve->s[k] * load);

        for (unsigned m = 0; m < Q_NODES; m++)
            sum += integrand->products[k][m] * a / (1 - curve->q[m] * a);
    }
    return sum;
}

static void weigh_by_curve(const struct curve_model *curve, const struct weighing *weighing,
                           double sum, uint64_t *ret)
{
    size_t n = usage_n_entities(weighing->usage);
    int exponent = weight_exponent(1, n);
    struct integrand integrand = {0};

    for (unsigned k = 0; k < S_NODES; k++)
        for (unsigned m = 0; m < Q_NODES; m++)
            integrand.products[k][m] = curve->s_weights[k] * curve->q_weights[m];
    for (size_t i = 0; i < n; i++)
        multiply(curve, &integrand,
                 cpu_time_weight(weighing, usage_entity(weighing->usage, i)) / sum);
    for (size_t i = 0; i < n; i++) {
        double load = cpu_time_weight(weighing, usage_entity(weighing->usage, i)) / sum;

        ret[i] = weight_quantise(shapley_value(curve, &integrand, load), exponent);
    }
}

static void curve_weights(const struct attribution_model *model, const struct zone *zone,
                          const struct usage *usage, uint64_t *ret)
{
    const struct weighing weighing = {model, zone, usage};
    double sum = 0;

    if (zone->kind == ZONE_DRAM || model->options.curve_exponent == 1) {
        weigh_by_cputime(&weighing, ret);
        return;
    }
    for (size_t i = 0; i < usage_n_entities(usage); i++)
        sum += cpu_time_weight(&weighing, usage_entity(usage, i));
    if (sum > 0)
        weigh_by_curve((const struct curve_model *)model, &weighing, sum, ret);
    else
        weigh_by_cputime(&weighing, ret);
}

static const struct attribution_model_ops curve_ops = {
    .name = "curve",
    .weights = curve_weights,
    .free = model_free,
};

int curve_model_new(const struct model_options *options, struct attribution_model **ret)
{
    struct attribution_model *model;
    int r = model_new(sizeof(struct curve_model), &curve_ops, options, &model);

    if (r < 0)
        return r;
    set_s_nodes((struct curve_model *)model);
    r = set_q_nodes((struct curve_model *)model);
    if (r < 0) {
        model_free(model);
        return r;
    }
    *ret = model;
    return 0;
}
