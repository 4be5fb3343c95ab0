/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attribution/fitted.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>

#include "attribution/weights.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/parse.h"

#define MODEL_TEXT_MAX (1 << 16)

static const char *const section_names[ZONE_KINDS] = {
    [ZONE_PACKAGE] = "package", [ZONE_CORE] = "core", [ZONE_UNCORE] = "uncore",
    [ZONE_DRAM] = "dram",       [ZONE_PSYS] = "psys",
};

static const char *const feature_names[FEATURES] = {
    [FEATURE_CPU_SECONDS] = "cpu_seconds", [FEATURE_CORUN_SECONDS] = "corun_seconds",
    [FEATURE_CYCLES] = "cycles",           [FEATURE_INSTRUCTIONS] = "instructions",
    [FEATURE_LLC_MISSES] = "llc_misses",   [FEATURE_MEMORY_BYTES] = "memory_bytes",
    [FEATURE_IO_BYTES] = "io_bytes",
};

struct fitted_model {
    struct attribution_model head;
    struct fitted_weights file;
};

/* The file. */

struct parser {
    struct config_text text;
    struct fitted_weights file;
    int lines[ZONE_KINDS]; /* of each section's last key */
};

static unsigned find_name(const char *name, const char *const *names, unsigned n)
{
    unsigned i = 0;

    while (i < n && strcmp(name, names[i]) != 0)
        i++;
    return i;
}

static void handle_key(struct config_text *text, const char *section, const char *name,
                       const char *value)
{
    struct parser *parser = (struct parser *)text;
    unsigned kind = find_name(section, section_names, ZONE_KINDS);
    unsigned feature = find_name(name, feature_names, FEATURES);
    struct fitted_section *weights = &parser->file.sections[kind];

    if (kind == ZONE_KINDS) {
        config_text_fail(text, section, name, "unknown section: not a kind of zone");
        return;
    }
    if (feature == FEATURES) {
        config_text_fail(text, section, name, "unknown key: not a feature");
        return;
    }
    if (weights->given & 1u << feature)
        config_text_fail(text, section, name, "given twice");
    if (parse_real(value, &weights->weights[feature]) < 0)
        config_text_fail(text, section, name,
                         "\"%.64s\" is not a number >= 0, such as 0.25 or 1.5e-9", value);
    weights->given |= 1u << feature;
    parser->lines[kind] = text->line;
}

/* Only ratios matter: with numbers below 1 no sum of features can overflow. */
static void normalise(struct parser *parser, unsigned kind)
{
    struct fitted_section *section = &parser->file.sections[kind];
    double largest = 0;
    int exponent;

    for (unsigned i = 0; i < FEATURES; i++)
        largest = fmax(largest, section->weights[i]);
    if (largest == 0) {
        parser->text.line = parser->lines[kind];
        config_text_fail(&parser->text, section_names[kind], "", "all numbers are 0");
    }
    frexp(largest, &exponent);
    for (unsigned i = 0; i < FEATURES; i++)
        section->weights[i] = ldexp(section->weights[i], -exponent);
}

int fitted_parse(const char *text, size_t length, struct fitted_weights *ret,
                 struct config_error *ret_error)
{
    struct parser parser = {.text = {.text = text, .length = length, .handle = handle_key}};
    bool empty = true;

    config_text_read(&parser.text);
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        if (parser.file.sections[kind].given) {
            normalise(&parser, kind);
            empty = false;
        }
    if (empty)
        config_text_fail(&parser.text, "", "", "no feature is given");
    if (parser.text.error.problem[0]) {
        *ret_error = parser.text.error;
        return -EINVAL;
    }
    *ret = parser.file;
    return 0;
}

/* The model. */

/* The section that holds for a kind of zone; without one, a section of zeros. */
static const struct fitted_section *find_section(const struct attribution_model *model,
                                                 enum zone_kind kind)
{
    const struct fitted_weights *file = &((const struct fitted_model *)model)->file;

    if (file->sections[kind].given || kind == ZONE_DRAM)
        return &file->sections[kind];
    return &file->sections[ZONE_PACKAGE];
}

static double fitted_weight(const struct weighing *weighing, const struct usage_amount *amount)
{
    const struct fitted_section *section = find_section(weighing->model, weighing->zone->kind);
    struct usage_socket used = usage_on_socket(amount, weighing->zone->socket);
    double cpu_seconds = (double)used.cpu_ns / (double)NSEC_PER_SEC;
    double corun_seconds = cpu_seconds * corun_part(&used);
    const double features[FEATURES] = {
        [FEATURE_CPU_SECONDS] = cpu_seconds - corun_seconds,
        [FEATURE_CORUN_SECONDS] = corun_seconds,
        [FEATURE_CYCLES] = (double)used.cycles,
        [FEATURE_INSTRUCTIONS] = (double)used.instructions,
        [FEATURE_LLC_MISSES] = (double)used.llc_misses,
        [FEATURE_MEMORY_BYTES] = (double)used.memory_bytes,
        [FEATURE_IO_BYTES] = (double)amount->io_bytes,
    };
    double sum = 0;

    for (unsigned i = 0; i < FEATURES; i++)
        sum += section->weights[i] * features[i];
    return sum;
}

static void fitted_weights(const struct attribution_model *model, const struct zone *zone,
                           const struct usage *usage, uint64_t *ret)
{
    const struct weighing weighing = {model, zone, usage};

    if (!weigh(&weighing, fitted_weight, ret))
        weigh_by_cputime(&weighing, ret);
}

static const struct attribution_model_ops fitted_ops = {
    .name = "fitted",
    .by_cycles = true,
    .weights = fitted_weights,
    .free = model_free,
};

static void complete_corun(struct fitted_section *section, double smt_power_ratio)
{
    if (!(section->given & 1u << FEATURE_CORUN_SECONDS))
        section->weights[FEATURE_CORUN_SECONDS] =
            section->weights[FEATURE_CPU_SECONDS] * smt_power_ratio / 2;
}

int fitted_model_new(const char *path, const struct model_options *options,
                     struct attribution_model **ret)
{
    _cleanup_free_ char *text = NULL;
    struct config_error error;
    struct fitted_weights file;
    size_t length;
    int r;

    r = read_file_full(AT_FDCWD, path, MODEL_TEXT_MAX, &text, &length);
    if (r < 0) {
        log_error("model unreadable", F_STRING("file", path), F_ERROR(r));
        return r;
    }
    r = fitted_parse(text, length, &file, &error);
    if (r < 0) {
        log_error("model invalid", F_STRING("file", path), F_INT("line", error.line),
                  F_STRING("section", error.section), F_STRING("key", error.key),
                  F_STRING("problem", error.problem));
        return r;
    }
    for (unsigned kind = 0; kind < ZONE_KINDS; kind++)
        complete_corun(&file.sections[kind], options->smt_power_ratio);
    r = model_new(sizeof(struct fitted_model), &fitted_ops, options, ret);
    if (r == 0)
        ((struct fitted_model *)*ret)->file = file;
    return r;
}
