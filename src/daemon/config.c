/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "source/sources.h"
#include "usage/providers.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/paths.h"

/* No zone draws more. */
#define STATIC_POWER_MAX_UW (UINT64_C(10000) * 1000000)

static int value_quantum(const char *value, void *target)
{
    return parse_energy_uj(value, target);
}

static int value_mode(const char *value, void *target)
{
    unsigned mode;
    int r = parse_mode(value, &mode);

    if (r < 0)
        return r;
    if (mode & ~0444u || !(mode & 0400))
        return -EINVAL;
    *(unsigned *)target = mode;
    return 0;
}

static int value_id(const char *value, void *target)
{
    uint64_t id;
    int r = parse_u64(value, strlen(value), &id);

    if (r < 0)
        return r;
    if (id >= UINT32_MAX)
        return -ERANGE;
    *(uint32_t *)target = (uint32_t)id;
    return 0;
}

/* A decimal number, bounds in billionths. */
static int decimal_between(const char *value, uint64_t from_e9, uint64_t to_e9, double *target)
{
    uint64_t billionths;
    int r = parse_decimal_e9(value, &billionths);

    if (r < 0)
        return r;
    if (billionths < from_e9 || billionths > to_e9)
        return -ERANGE;
    *target = (double)billionths / 1e9;
    return 0;
}

static int value_exponent(const char *value, void *target)
{
    return decimal_between(value, 1, UINT64_C(10000000000), target);
}

static int value_concave_exponent(const char *value, void *target)
{
    return decimal_between(value, 1, UINT64_C(1000000000), target);
}

static int value_smt_ratio(const char *value, void *target)
{
    return decimal_between(value, UINT64_C(1000000000), UINT64_C(2000000000), target);
}

static int value_policy(const char *value, void *target)
{
    return static_policy_from_string(value, target);
}

/* The names of a table's rows, as words of the configuration. */
#define WORD(kind) #kind,

static int value_energy(const char *value, void *target)
{
    int word = find_word(value, (const char *const[]){"auto", ENERGY_SOURCES(WORD) NULL});

    return word < 0 ? word : value_text(value, target);
}

static int value_provider(const char *value, void *target)
{
    int word = find_word(value, (const char *const[]){"auto", USAGE_PROVIDERS(WORD) NULL});

    return word < 0 ? word : value_text(value, target);
}

static int value_platform(const char *value, void *target)
{
    int word = find_word(value, (const char *const[]){"off", "psys", NULL});

    if (word < 0)
        return word;
    *(bool *)target = word == 1;
    return 0;
}

static int value_model(const char *value, void *target)
{
    return attribution_model_is_name(value) ? value_text(value, target) : -EINVAL;
}

/* The static power of zones that the configuration does not name. */
static int value_other_static_powers(const char *value, void *target)
{
    int word = find_word(value, (const char *const[]){"none", "auto", NULL});

    if (word < 0)
        return word;
    *(struct static_power *)target =
        (struct static_power){.state = word == 1 ? STATIC_LEARNING : STATIC_FIXED};
    return 0;
}

#define FIELD(name) offsetof(struct config, name)

static const struct config_key keys[] = {
    {"daemon", "interval", value_duration, FIELD(interval_ns), "1s",
     "a duration with its unit, such as 1s or 500ms"},
    {"daemon", "allow_fine_interval", value_bool, FIELD(allow_fine_interval), "no", "yes or no"},
    {"daemon", "runtime_dir", value_path, FIELD(runtime_dir), RUNTIME_DIRECTORY,
     "an absolute path"},
    {"daemon", "state_dir", value_path, FIELD(state_dir), "/var/lib/virtjoule", "an absolute path"},
    {"source", "energy", value_energy, FIELD(energy), "auto", "auto, rapl or estimate"},
    {"rapl", "sysfs_root", value_path, FIELD(sysfs_root), "/sys", "an absolute path"},
    {"estimate", "idle_watts", value_power, FIELD(estimate.idle_uw), "40W",
     "a power with its unit, such as 40W"},
    {"estimate", "max_watts", value_power, FIELD(estimate.max_uw), "120W",
     "a power with its unit, such as 120W"},
    {"estimate", "exponent", value_exponent, FIELD(estimate.exponent), "1.0",
     "a number above 0 and up to 10"},
    {"discovery", "libvirt_uri", value_text, FIELD(libvirt_uri), "qemu:///system",
     "a libvirt URI, or nothing"},
    {"discovery", "procfs", value_bool, FIELD(procfs), "yes", "yes or no"},
    {"discovery", "proc_root", value_path, FIELD(proc_root), "/proc", "an absolute path"},
    {"usage", "provider", value_provider, FIELD(provider), "auto", "auto, bpf or procfs"},
    {"attribution", "model", value_model, FIELD(model), "cputime",
     "cputime, counters, curve, or the absolute path of a fitted model"},
    {"attribution", "smt_power_ratio", value_smt_ratio, FIELD(model_options.smt_power_ratio), "1.1",
     "a number from 1 to 2"},
    {"attribution", "curve_exponent", value_concave_exponent, FIELD(model_options.curve_exponent),
     "0.98", "a number above 0 and up to 1"},
    {"attribution", "static_policy", value_policy, FIELD(static_policy), "exclude",
     "exclude, equal, proportional or vcpu"},
    {"attribution", "platform", value_platform, FIELD(publish_psys), "off", "off or psys"},
    {"baseline", "default", value_other_static_powers, FIELD(other_static_powers), "none",
     "none or auto"},
    {"baseline", "file", value_path, FIELD(baseline_file), NULL, "an absolute path"},
    {"powercapfs", "mountpoint", value_path, FIELD(mountpoint), TREES_MOUNTPOINT,
     "an absolute path"},
    {"powercapfs", "file_mode", value_mode, FIELD(file_mode), "0444",
     "an octal mode of read bits, the owner's among them, such as 0444"},
    {"powercapfs", "file_uid", value_id, FIELD(file_uid), "0", "a user id"},
    {"powercapfs", "file_gid", value_id, FIELD(file_gid), "0", "a group id"},
    {"powercapfs", "quantum", value_quantum, FIELD(quantum_uj), "1mJ",
     "an energy with its unit, such as 1mJ"},
    {"exporter", "listen", value_listen, FIELD(listen), "127.0.0.1:19177",
     "an address and port, such as 127.0.0.1:19177, a Unix socket's path, or nothing"},
};

static const struct config_keys own_keys = {CONFIG_KEYS(keys)};

static const struct {
    const struct config_keys *keys;
    size_t offset; /* of the struct that they fill */
} parts[] = {{&own_keys, 0},
#define PART(kind) {&kind##_keys, FIELD(meters.kind)},
             METER_KINDS(PART)};

size_t config_list_keys(struct config_key *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        for (size_t k = 0; k < parts[i].keys->n; k++) {
            assert(n < CONFIG_KEYS_MAX);
            ret[n] = parts[i].keys->keys[k];
            ret[n++].offset += parts[i].offset;
        }
    return n;
}

void config_init(struct config *config)
{
    struct config_key all[CONFIG_KEYS_MAX];

    *config = (struct config){0};
    config_keys_init(all, config_list_keys(all), config);
}

struct parser {
    struct config_text text;
    struct config config;
    bool static_powers_only;    /* this is a baseline file */
    size_t n_own_static_powers; /* then: those of the configuration */
    struct config_key keys[CONFIG_KEYS_MAX];
    size_t n_keys;
    int lines[CONFIG_KEYS_MAX]; /* where each key was given, 0 where it was not */
};

/* "20.5W", or with its uncertainty "20.5W +- 0.2W". */
static int parse_watts(const char *value, struct static_power *ret)
{
    const char *sign = strstr(value, " +- ");
    char power[64];
    struct static_power parsed = {0};

    snprintf(power, sizeof(power), "%.*s", sign ? (int)(sign - value) : (int)strlen(value), value);
    if (parse_power_uw(power, &parsed.power_uw) < 0 ||
        (sign && parse_power_uw(sign + strlen(" +- "), &parsed.uncertainty_uw) < 0))
        return -EINVAL;
    if (parsed.power_uw > STATIC_POWER_MAX_UW || parsed.uncertainty_uw > STATIC_POWER_MAX_UW)
        return -ERANGE;
    *ret = parsed;
    return 0;
}

static int parse_baseline(const struct parser *parser, const char *value, struct static_power *ret)
{
    int r = parser->static_powers_only ? -EINVAL : value_other_static_powers(value, ret);

    if (r == 0)
        return 0;
    r = parse_watts(value, ret);
    if (r == 0)
        ret->origin = parser->static_powers_only ? STATIC_CALIBRATED : STATIC_CONFIGURED;
    return r;
}

static void set_baseline(struct parser *parser, const char *zone, const char *value)
{
    struct config *config = &parser->config;
    struct static_power_setting setting = {0};

    if (strlen(zone) >= ZONE_NAME_MAX ||
        zone[strspn(zone, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0') {
        config_text_fail(&parser->text, "baseline", zone, "not the name of a zone");
        return;
    }
    memcpy(setting.zone, zone, strlen(zone) + 1);
    if (parse_baseline(parser, value, &setting.static_power) < 0) {
        config_text_fail(&parser->text, "baseline", zone,
                         "\"%.64s\" is not a power with its unit up to 10000W, such as 20.5W%s",
                         value, parser->static_powers_only ? "" : ", nor auto or none");
        return;
    }
    for (size_t i = 0; i < config->n_static_powers; i++) {
        if (strcmp(config->static_powers[i].zone, zone) != 0)
            continue;
        /* The configuration overrides the baseline file. */
        if (i >= parser->n_own_static_powers)
            config_text_fail(&parser->text, "baseline", zone, "given twice");
        return;
    }
    if (config->n_static_powers == CONFIG_STATIC_POWERS_MAX) {
        config_text_fail(&parser->text, "baseline", zone, "more zones than a host can have");
        return;
    }
    config->static_powers[config->n_static_powers++] = setting;
}

static void handle_key(struct config_text *text, const char *section, const char *name,
                       const char *value)
{
    struct parser *parser = (struct parser *)text;

    if (parser->static_powers_only) {
        if (strcmp(section, "baseline") == 0)
            set_baseline(parser, name, value);
        else
            config_text_fail(text, section, name, "a baseline file has a [baseline] section only");
        return;
    }
    if (config_keys_set(parser->keys, parser->n_keys, parser->lines, &parser->config, text, section,
                        name, value))
        return;
    if (strcmp(section, "baseline") == 0)
        set_baseline(parser, name, value);
    else
        config_text_fail(text, section, name,
                         config_keys_have_section(parser->keys, parser->n_keys, section)
                             ? "unknown key"
                             : "unknown section");
}

/* Reports a key that is wrong in itself or beside another one, at the line where it was given. */
static void fail_key(struct parser *parser, const char *section, const char *key,
                     const char *problem)
{
    for (size_t i = 0; i < parser->n_keys; i++)
        if (strcmp(parser->keys[i].section, section) == 0 && strcmp(parser->keys[i].key, key) == 0)
            parser->text.line = parser->lines[i];
    config_text_fail(&parser->text, section, key, "%s", problem);
}

static void validate_meter_interval(struct parser *parser, const char *section,
                                    uint64_t interval_ns)
{
    if (interval_ns < NSEC_PER_SEC || interval_ns > 3600 * NSEC_PER_SEC)
        fail_key(parser, section, "interval", "not between 1s and 60min");
}

static void validate_meters(struct parser *parser)
{
#define VALIDATE_INTERVAL(kind)                                                                    \
    validate_meter_interval(parser, #kind, parser->config.meters.kind.interval_ns);
    METER_KINDS(VALIDATE_INTERVAL)

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const struct config_keys *part = parts[i].keys;
        const char *problem, *key = NULL;

        if (part->check)
            key = part->check((const char *)&parser->config + parts[i].offset, &problem);
        if (key)
            fail_key(parser, part->keys[0].section, key, problem);
    }
}

/* Checks what the parser of one value cannot know. */
static void validate(struct parser *parser)
{
    const struct config *config = &parser->config;

    if (config->interval_ns < 100 * NSEC_PER_MSEC || config->interval_ns > 60 * NSEC_PER_SEC)
        fail_key(parser, "daemon", "interval", "not between 100ms and 60s");
    if (config->interval_ns < NSEC_PER_SEC && !config->allow_fine_interval)
        fail_key(parser, "daemon", "interval",
                 "below 1s guests learn more of their neighbours than they should: "
                 "needs allow_fine_interval = yes");
    if (config->estimate.max_uw > UINT64_C(100000) * 1000000)
        fail_key(parser, "estimate", "max_watts", "above 100000W");
    if (config->estimate.max_uw < config->estimate.idle_uw)
        fail_key(parser, "estimate", "idle_watts", "above max_watts");
    if (config->quantum_uj > 1000000)
        fail_key(parser, "powercapfs", "quantum", "above 1J");
    validate_meters(parser);
}

static int finish(const struct parser *parser, struct config *ret, struct config_error *ret_error)
{
    if (parser->text.error.problem[0]) {
        *ret_error = parser->text.error;
        return -EINVAL;
    }
    *ret = parser->config;
    return 0;
}

int config_parse(const char *text, size_t length, struct config *ret,
                 struct config_error *ret_error)
{
    struct parser parser = {.text = {.text = text, .length = length, .handle = handle_key}};

    config_init(&parser.config);
    parser.n_keys = config_list_keys(parser.keys);
    config_text_read(&parser.text);
    validate(&parser);
    return finish(&parser, ret, ret_error);
}

int config_parse_baselines(const char *text, size_t length, struct config *config,
                           struct config_error *ret_error)
{
    struct parser parser = {
        .text = {.text = text, .length = length, .handle = handle_key},
        .config = *config,
        .static_powers_only = true,
        .n_own_static_powers = config->n_static_powers,
    };

    config_text_read(&parser.text);
    return finish(&parser, config, ret_error);
}

static int parse_file(const char *text, size_t length, void *config, struct config_error *ret_error)
{
    return config_parse(text, length, config, ret_error);
}

static int parse_baseline_file(const char *text, size_t length, void *config,
                               struct config_error *ret_error)
{
    return config_parse_baselines(text, length, config, ret_error);
}

int config_load(const char *path, struct config *ret)
{
    struct config config;
    int r = config_file_load(path, &config, parse_file);

    if (r == 0 && config.baseline_file[0])
        r = config_file_load(config.baseline_file, &config, parse_baseline_file);
    if (r == 0)
        *ret = config;
    return r;
}
