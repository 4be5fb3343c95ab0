/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/model.h"

struct attribution_model *attribution_model_free(struct attribution_model *model)
{
    if (model)
        model->ops->free(model);
    return NULL;
}
