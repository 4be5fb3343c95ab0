/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/search.h"

static int compare_positions(const void *a, const void *b, void *names)
{
    const tree_name *all = names;

    return strcmp(all[*(const uint32_t *)a], all[*(const uint32_t *)b]);
}

int tree_names_init(struct tree_names *ret, const struct snapshot *snapshot)
{
    _cleanup_free_ tree_name *names = calloc(snapshot->n_vms + 1, sizeof(*names));
    _cleanup_free_ uint32_t *order = calloc(snapshot->n_vms + 1, sizeof(*order));
    struct tree_names result = {.names = names, .order = order};

    if (!names || !order)
        return -ENOMEM;
    for (uint32_t i = 0; i < snapshot->n_vms; i++) {
        if (!snapshot->vms[i].has_tree)
            continue;
        snapshot_file_name(snapshot->vms[i].name, names[i]);
        order[result.n++] = i;
    }
    if (result.n > 0)
        qsort_r(order, result.n, sizeof(*order), compare_positions, names);
    *ret = (struct tree_names){.names = TAKE_PTR(names), .order = TAKE_PTR(order), .n = result.n};
    return 0;
}

void tree_names_deinit(struct tree_names *names)
{
    free(names->names);
    free(names->order);
    *names = (struct tree_names){0};
}

struct sought {
    const struct tree_names *names;
    const char *name;
};

static bool name_is_before(size_t i, const void *userdata)
{
    const struct sought *sought = userdata;

    return strcmp(sought->names->names[sought->names->order[i]], sought->name) < 0;
}

ssize_t tree_names_find(const struct tree_names *names, const char *name)
{
    size_t i = lower_bound(names->n, name_is_before, &(struct sought){names, name});

    if (i == names->n || strcmp(names->names[names->order[i]], name) != 0)
        return -ENOENT;
    return names->order[i];
}
