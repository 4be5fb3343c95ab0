/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "powercapfs/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/search.h"
#include "util/utf8.h"

/* "@" and a UUID. */
#define SUFFIX_LENGTH UUID_TEXT_SIZE

_Static_assert(VM_NAME_MAX <= NAME_MAX + 1, "a VM's name is never longer than a file name");

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 0x7f;
}

/* Breaks an "@<uuid>" at the end of a name. */
static void defuse_suffix(char *name, size_t length)
{
    char *suffix = name + length - SUFFIX_LENGTH;
    uuid_t uuid;

    if (length >= SUFFIX_LENGTH && *suffix == '@' && uuid_parse(suffix + 1, uuid) == 0)
        *suffix = '_';
}

void tree_name_sanitise(const char *name, tree_name ret)
{
    size_t length = strnlen(name, VM_NAME_MAX - 1), n = 0;

    while (n < length) {
        size_t character = utf8_character_length(name + n, length - n);

        if (character == 0 || name[n] == '/' || is_control(name[n]) || (n == 0 && *name == '.')) {
            ret[n++] = '_';
            continue;
        }
        memcpy(ret + n, name + n, character);
        n += character;
    }
    if (n == 0)
        ret[n++] = '_';
    ret[n] = '\0';
    defuse_suffix(ret, n);
}

/* Appends "@<uuid>" to a name, which is cut between characters where the suffix does not fit. */
static void name_add_uuid(tree_name name, const char *uuid_text)
{
    size_t length = strlen(name);

    if (length > NAME_MAX - SUFFIX_LENGTH) {
        length = NAME_MAX - SUFFIX_LENGTH;
        while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
            length--;
    }
    snprintf(name + length, sizeof(tree_name) - length, "@%s", uuid_text);
}

/* By name, then by position, which is by UUID. */
static int compare_positions(const void *a, const void *b, void *names)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int difference = strcmp(((const tree_name *)names)[i], ((const tree_name *)names)[j]);

    return difference ? difference : (i > j) - (i < j);
}

static void names_sort(struct tree_names *names)
{
    if (names->n > 0)
        qsort_r(names->order, names->n, sizeof(*names->order), compare_positions, names->names);
}

int tree_names_init(struct tree_names *ret, const struct snapshot *snapshot)
{
    _cleanup_free_ tree_name *names = calloc(snapshot->n_vms + 1, sizeof(*names));
    _cleanup_free_ uint32_t *order = calloc(snapshot->n_vms + 1, sizeof(*order));
    struct tree_names result = {.names = names, .order = order};
    size_t first = 0;

    if (!names || !order)
        return -ENOMEM;
    for (uint32_t i = 0; i < snapshot->n_vms; i++) {
        if (!snapshot->vms[i].has_tree)
            continue;
        tree_name_sanitise(snapshot->vms[i].name, names[i]);
        order[result.n++] = i;
    }
    names_sort(&result);
    for (size_t i = 1; i < result.n; i++) {
        if (strcmp(names[order[first]], names[order[i]]) == 0)
            name_add_uuid(names[order[i]], snapshot->vms[order[i]].uuid_text);
        else
            first = i;
    }
    names_sort(&result);
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
