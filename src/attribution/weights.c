/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int model_new(size_t size, const struct attribution_model_ops *ops,
              const struct model_options *options, struct attribution_model **ret)
{
    struct attribution_model *model = calloc(1, size);

    if (!model)
        return -ENOMEM;
    model->ops = ops;
    model->options = *options;
    *ret = model;
    return 0;
}

void model_free(struct attribution_model *model)
{
    free(model);
}

int weight_exponent(double largest, size_t n)
{
    int largest_bits, n_bits;

    frexp(largest, &largest_bits); /* largest < 2^largest_bits */
    frexp((double)n, &n_bits);     /* n < 2^n_bits */
    return 63 - n_bits - largest_bits;
}

uint64_t weight_quantise(double weight, int exponent)
{
    return (uint64_t)ldexp(weight, exponent);
}

bool weigh(const struct weighing *weighing, weight_function weight, uint64_t *ret)
{
    size_t n = usage_n_entities(weighing->usage);
    double largest = 0;
    int exponent;

    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, weight(weighing, usage_entity(weighing->usage, i)));
    exponent = weight_exponent(largest, n);
    for (size_t i = 0; i < n; i++)
        ret[i] = weight_quantise(weight(weighing, usage_entity(weighing->usage, i)), exponent);
    return largest > 0;
}

double corun_part(const struct usage_socket *used)
{
    /* The two are measured one after the other, and may disagree by a moment. */
    return used->cpu_ns ? fmin((double)used->corun_ns / (double)used->cpu_ns, 1) : 0;
}

double smt_factor(const struct usage_socket *used, const struct model_options *options)
{
    return 1 - corun_part(used) * (1 - options->smt_power_ratio / 2);
}
