/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "requests/request_config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "requests/cgroup.h"
#include "util/macros.h"
#include "util/parse.h"

const char *attribution_mode_to_string(enum attribution_mode mode)
{
    return mode == ATTRIBUTION_MODEL ? "model" : "psys";
}

static int value_attribution_mode(const char *value, void *target)
{
    int word = find_word(value, (const char *const[]){"psys", "model", NULL});

    if (word < 0)
        return word;
    *(enum attribution_mode *)target = (enum attribution_mode)word;
    return 0;
}

static int parse_weight(const char *value, double max, double *ret)
{
    double weight;
    int r = parse_real(value, &weight);

    if (r < 0)
        return r;
    if (weight > max)
        return -ERANGE;
    *ret = weight;
    return 0;
}

static int value_rate(const char *value, void *target)
{
    return parse_weight(value, REQUEST_RATE_MAX, target);
}

static int value_penalty(const char *value, void *target)
{
    return parse_weight(value, REQUEST_PENALTY_MAX, target);
}

static int value_interval(const char *value, void *target)
{
    return parse_u64_between(value, 10, 60000, target);
}

/* Up to 10 kW: more than any machine draws without load. */
static int value_idle_power(const char *value, void *target)
{
    return parse_u64_between(value, 0, UINT64_C(10000000000), target);
}

static int value_bytes(const char *value, void *target)
{
    return parse_u64_between(value, 0, UINT64_MAX, target);
}

static int value_tree(const char *value, void *target)
{
    return strcmp(value, "auto") == 0 ? value_text("", target) : value_path(value, target);
}

#define FIELD(name) offsetof(struct request_config, name)
#define RATE(key, field, initial)                                                                  \
    {                                                                                              \
        "", key, value_rate, FIELD(weights.field), initial, "a number from 0 to 10"                \
    }
#define PENALTY(key, field, initial)                                                               \
    {                                                                                              \
        "", key, value_penalty, FIELD(weights.field), initial, "a number from 0 to 1000000"        \
    }

static const struct config_key keys[] = {
    {"", "attribution_mode", value_attribution_mode, FIELD(mode), "psys", "psys or model"},
    RATE("default_multiplier", default_multiplier, "1"),
    PENALTY("wakeup_penalty", wakeup, "0"),
    RATE("cycles_weight", cycles, "0"),
    RATE("instructions_weight", instructions, "0"),
    RATE("cache_miss_weight", cache_miss, "0"),
    PENALTY("migration_penalty", migration, "0"),
    {"", "idle_power_uw", value_idle_power, FIELD(idle_power_uw), "0",
     "a whole number of microwatts up to 10000000000"},
    {"", "psys_interval_ms", value_interval, FIELD(psys_interval_ms), "1000",
     "a whole number of milliseconds from 10 to 60000"},
    {"", "tree", value_tree, FIELD(tree), "auto", "an absolute path, nor auto"},
    {"", "access_log", value_path_or_none, FIELD(access_log), "", "an absolute path, or nothing"},
    {"", "access_log_max_bytes", value_bytes, FIELD(access_log_max_bytes), "1073741824",
     "a whole number of bytes"},
    {"", "listen", value_listen, FIELD(listen), "127.0.0.1:19178",
     "an address and port, such as 127.0.0.1:19178, a Unix socket's path, or nothing"},
};

#define N_KEYS ARRAY_SIZE(keys)

const struct config_keys request_config_keys = {CONFIG_KEYS(keys)};

void request_config_init(struct request_config *config)
{
    *config = (struct request_config){0};
    config_keys_init(keys, N_KEYS, config);
}

struct parser {
    struct config_text text;
    struct request_config config;
    int lines[N_KEYS]; /* where each key was given, 0 where it was not */
};

static void add_cgroup(struct parser *parser, const char *value)
{
    struct request_config *config = &parser->config;

    if (!cgroup_is_path(value) && !cgroup_is_unit(value)) {
        config_text_fail(&parser->text, "", "cgroup",
                         "\"%.64s\" is neither the absolute path of a cgroup nor the name of a "
                         "unit, such as nginx.service",
                         value);
        return;
    }
    if (config->n_cgroups == REQUEST_CGROUPS_MAX) {
        config_text_fail(&parser->text, "", "cgroup", "more than %d", REQUEST_CGROUPS_MAX);
        return;
    }
    for (size_t i = 0; i < config->n_cgroups; i++)
        if (strcmp(config->cgroups[i], value) == 0)
            config_text_fail(&parser->text, "", "cgroup", "\"%.64s\" is given twice", value);
    /* The checks above let through only what fits. */
    if (value_text(value, config->cgroups[config->n_cgroups]) == 0)
        config->n_cgroups++;
}

/* "1800000 1.25" */
static int parse_frequency(const char *value, struct frequency_multiplier *ret)
{
    const char *blank = strpbrk(value, " \t");
    struct frequency_multiplier frequency = {0};
    uint64_t khz;
    int r;

    if (!blank)
        return -EINVAL;
    r = parse_u64(value, (size_t)(blank - value), &khz);
    if (r == 0)
        r = value_rate(blank + strspn(blank, " \t"), &frequency.multiplier);
    if (r < 0)
        return r;
    if (khz == 0 || khz > UINT32_MAX)
        return -ERANGE;
    frequency.khz = (uint32_t)khz;
    *ret = frequency;
    return 0;
}

static void add_frequency(struct parser *parser, const char *value)
{
    struct request_weights *weights = &parser->config.weights;
    struct frequency_multiplier frequency;
    size_t place = weights->n_frequencies;

    if (parse_frequency(value, &frequency) < 0) {
        config_text_fail(&parser->text, "", "freq_khz",
                         "\"%.64s\" is not a frequency in kHz and a number from 0 to 10, "
                         "such as 1800000 1.25",
                         value);
        return;
    }
    if (place == REQUEST_MULTIPLIERS_MAX) {
        config_text_fail(&parser->text, "", "freq_khz", "more than %d", REQUEST_MULTIPLIERS_MAX);
        return;
    }
    for (; place > 0 && weights->frequencies[place - 1].khz >= frequency.khz; place--)
        if (weights->frequencies[place - 1].khz == frequency.khz) {
            config_text_fail(&parser->text, "", "freq_khz", "%u is given twice", frequency.khz);
            return;
        }
    memmove(&weights->frequencies[place + 1], &weights->frequencies[place],
            (weights->n_frequencies - place) * sizeof(frequency));
    weights->frequencies[place] = frequency;
    weights->n_frequencies++;
}

static void handle_key(struct config_text *text, const char *section, const char *name,
                       const char *value)
{
    struct parser *parser = (struct parser *)text;

    if (*section)
        config_text_fail(text, section, name, "there are no sections");
    else if (strcmp(name, "cgroup") == 0)
        add_cgroup(parser, value);
    else if (strcmp(name, "freq_khz") == 0)
        add_frequency(parser, value);
    else if (!config_keys_set(keys, N_KEYS, parser->lines, &parser->config, text, section, name,
                              value))
        config_text_fail(text, section, name, "unknown key");
}

int request_config_parse(const char *text, size_t length, struct request_config *ret,
                         struct config_error *ret_error)
{
    struct parser parser = {.text = {.text = text, .length = length, .handle = handle_key}};

    request_config_init(&parser.config);
    config_text_read(&parser.text);
    if (parser.text.error.problem[0]) {
        *ret_error = parser.text.error;
        return -EINVAL;
    }
    *ret = parser.config;
    return 0;
}

static int parse_file(const char *text, size_t length, void *config, struct config_error *ret_error)
{
    return request_config_parse(text, length, config, ret_error);
}

int request_config_load(const char *path, struct request_config *ret)
{
    return config_file_load(path, ret, parse_file);
}
