/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every kind of every table is made, and can do what its vtable demands. A new row of a table fails
 * here until it has what it needs to be made in a test.
 */

#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "attribution/model.h"
#include "daemon/config.h"
#include "fixture.h"
#include "source/sources.h"
#include "usage/providers.h"

#define OPERATION(kind, ops, operation)                                                            \
    do {                                                                                           \
        if (!(ops)->operation)                                                                     \
            fail_msg("%s has no operation \"%s\"", kind, #operation);                              \
    } while (0)

#define PAIR(kind, ops, one, other)                                                                \
    do {                                                                                           \
        if (!(ops)->one != !(ops)->other)                                                          \
            fail_msg("%s: \"%s\" and \"%s\" go together", kind, #one, #other);                     \
    } while (0)

static void assert_name(const char *table, const char *kind, const char *name)
{
    if (!name || strcmp(kind, name) != 0)
        fail_msg("row %s of %s makes one that is called \"%s\"", kind, table, name ? name : "");
}

/* With what each kind makes a meter, which is asked nothing here, and with what it makes none. */
static const struct {
    const char *kind, *on, *off;
} meters[] = {
    {"hwmon", "sensors = none/power1", "sensors = none"},
    {"dcmi", "device = /dev/null", "device = none"},
    {"redfish", "url = https://localhost:1", "url ="},
    {"snmp", "address = udp:127.0.0.1:1\noids = 1.3\ncredentials = /nowhere/snmp", "address ="},
};

/* Turns one kind on and all others off. */
static void configure(const char *kind, struct config *ret)
{
    struct config_error error;
    char text[1024] = "";
    bool known = false;

    for (size_t i = 0; i < ELEMENTS(meters); i++) {
        bool on = strcmp(meters[i].kind, kind) == 0;
        size_t length = strlen(text);

        snprintf(text + length, sizeof(text) - length, "[%s]\n%s\n", meters[i].kind,
                 on ? meters[i].on : meters[i].off);
        known |= on;
    }
    if (!known)
        fail_msg("kind of meter %s: test-kinds.c has no configuration for it", kind);
    if (config_parse(text, strlen(text), ret, &error) < 0)
        fail_msg("[%s] %s: %s", error.section, error.key, error.problem);
}

static void check_meter(const char *kind, sd_event *event)
{
    const struct meter_host host = {.event = event, .sysfs_root = "/nowhere"};
    struct meter *made[METERS_MAX] = {0};
    struct config config;

    configure(kind, &config);
    assert_int_equal(meters_new(&config.meters, &host, made), 1);
    assert_name("METER_KINDS", kind, made[0]->ops->name);
    OPERATION(kind, made[0]->ops, ask);
    OPERATION(kind, made[0]->ops, cancel);
    OPERATION(kind, made[0]->ops, free);
    assert_true(made[0]->interval_ns > 0 && made[0]->timeout_ns > 0);
    meter_free(made[0]);
}

static void test_meters(void **state)
{
    sd_event *event;

    assert_int_equal(sd_event_new(&event), 0);
#define CHECK_METER(kind) check_meter(#kind, event);
    METER_KINDS(CHECK_METER)
    sd_event_unref(event);
}

/* A machine that has what each source reads. */
static void write_machine(const char *root)
{
    fixture_write(root, "package-0\n", "class/powercap/intel-rapl:0/name");
    fixture_write(root, "1\n", "class/powercap/intel-rapl:0/energy_uj");
    fixture_write(root, "262143328850\n", "class/powercap/intel-rapl:0/max_energy_range_uj");
    fixture_write(root, "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 5 0 5 0 0 0 0 0 0 0\n", "stat");
}

static void check_source(const char *name, const char *root)
{
    const struct energy_source_options options = {
        .name = name,
        .sysfs_root = root,
        .proc_root = root,
        .estimate = {.idle_uw = 1, .max_uw = 2, .exponent = 1},
    };
    struct energy_source *source = NULL;

    if (energy_source_open(&source, &options) < 0)
        fail_msg("source %s: test-kinds.c has no machine for it", name);
    assert_name("ENERGY_SOURCES", name, source->ops->name);
    OPERATION(name, source->ops, read);
    OPERATION(name, source->ops, free);
    PAIR(name, source->ops, event_fd, dispatch);
    assert_true(source->zones.n > 0);
    energy_source_free(source);
}

static void test_sources(void **state)
{
    struct energy_source *source = NULL;

    write_machine(*state);
#define CHECK_SOURCE(name) check_source(#name, *state);
    ENERGY_SOURCES(CHECK_SOURCE)
    assert_int_equal(energy_source_open(&source, &(struct energy_source_options){.name = "magic"}),
                     -EINVAL);
}

static void check_provider(const char *name)
{
    const struct usage_provider_options options = {
        .name = name, .proc_root = "/proc", .sysfs_root = "/sys"};
    struct usage_provider *provider = NULL;
    int r = usage_provider_open(&provider, &options);

    if (r < 0 && strcmp(name, "bpf") == 0) {
        print_message("provider bpf cannot be made here: no permission, or no BTF\n");
        return;
    }
    assert_int_equal(r, 0);
    assert_name("USAGE_PROVIDERS", name, provider->ops->name);
    OPERATION(name, provider->ops, sample);
    OPERATION(name, provider->ops, save);
    OPERATION(name, provider->ops, free);
    PAIR(name, provider->ops, event_fd, dispatch);
    usage_provider_free(provider);
}

static void test_providers(void **state)
{
    struct usage_provider *provider = NULL;

#define CHECK_PROVIDER(name) check_provider(#name);
    USAGE_PROVIDERS(CHECK_PROVIDER)
    assert_int_equal(
        usage_provider_open(&provider, &(struct usage_provider_options){.name = "magic"}), -EINVAL);
}

static void check_model(const char *name, const char *path)
{
    struct attribution_model *model = NULL;

    assert_true(attribution_model_is_name(path));
    assert_int_equal(attribution_model_open(path, &MODEL_OPTIONS_DEFAULT, &model), 0);
    assert_name("ATTRIBUTION_MODELS", name, model->ops->name);
    OPERATION(name, model->ops, weights);
    OPERATION(name, model->ops, free);
    attribution_model_free(model);
}

static void test_models(void **state)
{
    char path[256];

#define CHECK_MODEL(name) check_model(#name, #name);
    ATTRIBUTION_MODELS(CHECK_MODEL)
    fixture_write(*state, "[package]\ncpu_seconds = 1\n", "fitted");
    snprintf(path, sizeof(path), "%s/fitted", (const char *)*state);
    check_model("fitted", path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meters),
        cmocka_unit_test_setup_teardown(test_sources, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_providers),
        cmocka_unit_test_setup_teardown(test_models, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
