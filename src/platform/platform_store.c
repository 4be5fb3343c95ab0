/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "platform/platform_store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "meter/meter.h"
#include "util/cleanup.h"
#include "util/file.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/parse.h"

#define FILE_MAX (PLATFORM_METERS_MAX * PLATFORM_RELATION_MAX)

/* The numbers of a line, in its order, with the range that a fit may give. */
static const struct {
    size_t offset;
    double min, max;
} numbers[] = {
    {offsetof(struct platform_estimate, static_watts), 0, METER_POWER_MAX_W},
    {offsetof(struct platform_estimate, static_sigma), 0, METER_POWER_MAX_W},
    {offsetof(struct platform_estimate, slope), 1e-6, METER_POWER_MAX_W},
    {offsetof(struct platform_estimate, slope_sigma), 0, METER_POWER_MAX_W},
    {offsetof(struct platform_estimate, io_joules_per_byte), 0, 1},
    {offsetof(struct platform_estimate, window_s), 1, 30},
    {offsetof(struct platform_estimate, delay_s), 0, 20},
    {offsetof(struct platform_estimate, scatter_watts), 0, METER_POWER_MAX_W},
};
#define NUMBERS ARRAY_SIZE(numbers)

static double *number_at(const struct platform_estimate *estimate, size_t i)
{
    return (double *)((char *)estimate + numbers[i].offset);
}

/* Ends the next word of a text with NUL. @return the word; NULL: there is none */
static char *next_word(char **text)
{
    char *word = strsep(text, " ");

    return word && *word ? word : NULL;
}

static int parse_numbers(char **text, struct platform_estimate *ret)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        const char *word = next_word(text);
        double *number = number_at(ret, i);
        int r = word ? parse_real(word, number) : -EINVAL;

        if (r < 0)
            return r;
        if (*number < numbers[i].min || *number > numbers[i].max)
            return -ERANGE;
    }
    return *text ? -EINVAL : 0;
}

int platform_relation_parse(const char *text, size_t length, struct platform_relation *ret)
{
    struct platform_relation relation = {.estimate = {.state = STATIC_LEARNED, .known = true}};
    char line[PLATFORM_RELATION_MAX], *rest = line;
    const char *meter, *load;
    int r;

    if (length >= sizeof(line) || memchr(text, '\0', length))
        return -EINVAL;
    memcpy(line, text, length);
    line[length] = '\0';
    meter = next_word(&rest);
    load = next_word(&rest);
    if (!meter || !load || strlen(meter) >= sizeof(relation.meter))
        return -EINVAL;
    relation.is_power = strcmp(load, "watts") == 0;
    if (!relation.is_power && strcmp(load, "cores") != 0)
        return -EINVAL;
    memcpy(relation.meter, meter, strlen(meter));
    r = parse_numbers(&rest, &relation.estimate);
    if (r < 0)
        return r;
    *ret = relation;
    return 0;
}

int platform_relation_format(const struct platform_relation *relation, char *text, size_t size)
{
    size_t length = (size_t)snprintf(text, size, "%s %s", relation->meter,
                                     relation->is_power ? "watts" : "cores");

    for (size_t i = 0; i < NUMBERS && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, " %.6g",
                                   *number_at(&relation->estimate, i));
    if (length + 1 >= size)
        return -ENOSPC;
    text[length++] = '\n';
    text[length] = '\0';
    return (int)length;
}

static void get_path(const char *runtime_dir, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/platform", runtime_dir);
}

static int parse_file(const char *text, struct platform_relation *ret, size_t *ret_n)
{
    size_t n = 0;

    for (const char *end; n < PLATFORM_METERS_MAX && (end = strchr(text, '\n')); text = end + 1) {
        int r = platform_relation_parse(text, (size_t)(end - text), &ret[n]);

        if (r < 0)
            return r;
        n++;
    }
    *ret_n = n;
    return *text ? -EINVAL : 0;
}

size_t platform_store_load(const char *runtime_dir, struct platform_relation *ret)
{
    _cleanup_free_ char *text = NULL;
    char path[PATH_MAX];
    size_t length, n = 0;
    int r;

    get_path(runtime_dir, path);
    r = read_state_file(path, FILE_MAX, &text, &length);
    if (r == -ENOENT)
        return 0;
    if (r == 0)
        r = parse_file(text, ret, &n);
    if (r == 0)
        return n;
    log_warning("what was learned of meters cannot be used, it is learned anew",
                F_STRING("file", path), F_ERROR(r));
    return 0;
}

int platform_store_save(const char *runtime_dir, const struct platform_relation *relations,
                        size_t n)
{
    char path[PATH_MAX], text[FILE_MAX];
    size_t length = 0;

    for (size_t i = 0; i < n; i++) {
        int r = platform_relation_format(&relations[i], text + length, sizeof(text) - length);

        if (r < 0)
            return r;
        length += (size_t)r;
    }
    get_path(runtime_dir, path);
    return replace_file(path, text, length, 0644);
}

void platform_store_restore(const struct platform_store *store, struct platform *platform)
{
    struct platform_relation relations[PLATFORM_METERS_MAX];
    size_t n = platform_store_load(store->runtime_dir, relations);

    for (size_t i = 0; i < n; i++)
        for (size_t meter = 0; meter < store->n; meter++)
            if (strcmp(relations[i].meter, store->meters[meter]) == 0 &&
                relations[i].is_power == store->is_power)
                platform_restore(platform, meter, &relations[i].estimate);
}

static bool is_same(const struct platform_estimate *one, const struct platform_estimate *other)
{
    return one->known == other->known && one->static_watts == other->static_watts &&
           one->slope == other->slope;
}

void platform_store_keep(struct platform_store *store, const struct platform *platform)
{
    struct platform_relation relations[PLATFORM_METERS_MAX];
    bool changed = false;
    size_t n = 0;
    int r;

    for (size_t meter = 0; meter < store->n; meter++) {
        const struct platform_estimate *estimate = &platform_get_meter(platform, meter)->estimate;

        changed |= !is_same(estimate, &store->kept[meter]);
        store->kept[meter] = *estimate;
        if (!estimate->known)
            continue;
        relations[n] =
            (struct platform_relation){.is_power = store->is_power, .estimate = *estimate};
        snprintf(relations[n].meter, sizeof(relations[n].meter), "%s", store->meters[meter]);
        n++;
    }
    r = changed ? platform_store_save(store->runtime_dir, relations, n) : store->error;
    if (r < 0 && r != store->error)
        log_warning("what was learned of meters cannot be kept: after a restart it is learned anew",
                    F_ERROR(r));
    store->error = r;
}
