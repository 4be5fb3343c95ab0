/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/model.h"

#include <errno.h>
#include <string.h>

#include "util/macros.h"

typedef int (*constructor)(const struct model_options *options, struct attribution_model **ret);

static const struct {
    const char *name;
    constructor construct;
} models[] = {
#define ROW(name) {#name, name##_model_new},
    ATTRIBUTION_MODELS(ROW)};

struct attribution_model *attribution_model_free(struct attribution_model *model)
{
    if (model)
        model->ops->free(model);
    return NULL;
}

static constructor find_constructor(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(models); i++)
        if (strcmp(models[i].name, name) == 0)
            return models[i].construct;
    return NULL;
}

bool attribution_model_is_name(const char *name)
{
    return name[0] == '/' || find_constructor(name);
}

int attribution_model_open(const char *name_or_path, const struct model_options *options,
                           struct attribution_model **ret)
{
    constructor construct = find_constructor(name_or_path);

    if (construct)
        return construct(options, ret);
    if (name_or_path[0] == '/')
        return fitted_model_new(name_or_path, options, ret);
    return -EINVAL;
}
