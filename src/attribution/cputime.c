/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include "attribution/model.h"

static void cputime_weights(const struct attribution_model *model, const struct zone *zone,
                            const struct usage *usage, uint64_t *ret)
{
    for (size_t i = 0; i < usage_n_entities(usage); i++) {
        struct usage_socket used = usage_on_socket(usage_entity(usage, i), zone->socket);

        ret[i] = zone->kind == ZONE_DRAM ? used.memory_bytes : used.cpu_ns;
    }
}

static void cputime_free(struct attribution_model *model)
{
    free(model);
}

static const struct attribution_model_ops cputime_ops = {
    .name = "cputime",
    .weights = cputime_weights,
    .free = cputime_free,
};

int cputime_model_new(struct attribution_model **ret)
{
    struct attribution_model *model = calloc(1, sizeof(*model));

    if (!model)
        return -ENOMEM;
    model->ops = &cputime_ops;
    *ret = model;
    return 0;
}
