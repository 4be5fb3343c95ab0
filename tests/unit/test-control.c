/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/snapshot_fixture.h"
#include "cli/print.h"
#include "publish/control.h"

static struct snapshot *two_vms(void)
{
    struct snapshot *snapshot = snapshot_new(2);

    snapshot->interval_ns = 1000000000;
    snapshot->source = "estimate";
    snapshot->usage_provider = "procfs";
    snapshot->model = "cputime";
    snapshot->static_policy = "exclude";
    snapshot->estimate = true;
    snapshot->n_zones = 1;
    snapshot->zones[0] = (struct snapshot_zone){
        .zone = {.name = "package-0"}, .readable = true, .measured_uj = 1000002, .host_uj = 1};
    snapshot->zones[0].static_power =
        (struct static_power){STATIC_FROM_LOAD, STATIC_NOT_IDENTIFIABLE, 40250000, 500000, 0};
    snapshot->n_vms = 2;
    for (uint32_t i = 0; i < 2; i++) {
        struct snapshot_vm *vm = &snapshot->vms[i];

        vm->id = i + 1;
        vm->uuid[15] = (unsigned char)(i + 1);
        uuid_unparse_lower(vm->uuid, vm->uuid_text);
        vm->running = true;
        vm->has_tree = true;
        snapshot->by_id[i] = i;
    }
    strcpy(snapshot->vms[0].name, "web");
    strcpy(snapshot->vms[1].name, "bad\"\n\xff name");
    snapshot->vms[0].dynamic_uj[0] = 1000001;
    snapshot->vms[0].tree[TREE_PACKAGE] = (struct ramp){500001, 1000001};
    return snapshot;
}

static struct json_object *ask(const struct snapshot *snapshot, const char *request)
{
    struct json_object *answer;
    char *text = NULL;

    assert_int_equal(control_answer(request, strlen(request), snapshot, "/vms", &text), 0);
    assert_int_equal(text[strlen(text) - 1], '\n');
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    answer = json_tokener_parse(text);
    assert_non_null(answer);
    free(text);
    return answer;
}

static const char *text_of(struct json_object *object, const char *key)
{
    return json_object_get_string(json_object_object_get(object, key));
}

static void test_list(void **state)
{
    struct snapshot *snapshot = two_vms();
    struct json_object *answer = ask(snapshot, "{\"command\":\"list\"}\n");
    struct json_object *vms = json_object_object_get(answer, "vms");
    struct json_object *vm = json_object_array_get_idx(vms, 0);

    assert_int_equal(json_object_array_length(vms), 2);
    assert_string_equal(text_of(answer, "estimate"), "true");
    assert_string_equal(text_of(vm, "name"), "web");
    assert_string_equal(text_of(json_object_object_get(vm, "energy_joules"), "package-0"),
                        "1.000001");
    assert_string_equal(text_of(vm, "package_watts"), "0.500");
    assert_string_equal(text_of(vm, "tree"), "/vms/00000000-0000-0000-0000-000000000001");
    assert_string_equal(text_of(json_object_array_get_idx(vms, 1), "name"),
                        "bad\"\n\xef\xbf\xbd name");
    json_object_put(answer);
    snapshot_free(snapshot);
}

static void test_show(void **state)
{
    static const char *const found[] = {
        "{\"command\":\"show\",\"vm\":\"web\"}",
        "{\"command\":\"show\",\"vm\":\"00000000-0000-0000-0000-000000000001\"}",
        "{\"command\":\"show\",\"vm\":\"00000000-0000-0000-0000-000000000001\",\"more\":1}",
    };
    struct snapshot *snapshot = two_vms();
    struct json_object *answer, *static_power;

    for (size_t i = 0; i < ELEMENTS(found); i++) {
        answer = ask(snapshot, found[i]);
        assert_string_equal(text_of(answer, "name"), "web");
        json_object_put(answer);
    }
    answer = ask(snapshot, "{\"command\":\"show\"}");
    assert_null(json_object_object_get(answer, "name"));
    assert_string_equal(text_of(answer, "model"), "cputime");
    assert_int_equal(json_object_array_length(json_object_object_get(answer, "zones")), 1);
    static_power = json_object_object_get(
        json_object_array_get_idx(json_object_object_get(answer, "zones"), 0), "baseline");
    assert_string_equal(text_of(static_power, "watts"), "40.250");
    assert_string_equal(text_of(static_power, "uncertainty_watts"), "0.500");
    assert_string_equal(text_of(static_power, "origin"), "learned");
    assert_string_equal(text_of(static_power, "state"), "not-identifiable");
    json_object_put(answer);
    snapshot_free(snapshot);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *request;
        const char *error;
    } cases[] = {
        {"{\"command\":\"show\",\"vm\":\"nothing\"}", "no such VM"},
        {"{\"command\":\"show\",\"vm\":7}", "no such VM"},
        {"{\"command\":\"show\",\"vm\":\"11111111-0000-0000-0000-000000000001\"}", "no such VM"},
        {"{\"command\":\"reboot\"}", "unknown command"},
        {"{\"command\":\"prepare\"}", "takes the UUID"},
        {"{\"command\":\"prepare\",\"vm\":\"web\"}", "takes the UUID"},
        {"{\"command\":\"prepare\",\"vm\":[]}", "takes the UUID"},
        {"{\"command\":\"prepare\",\"vm\":\"00000000-0000-0000-0000-000000000000\"}",
         "takes the UUID"},
        {"{\"command\":\"prepare\",\"vm\":\"00000000-0000-0000-0000-000000000009\"}",
         "could not be made"},
        {"{\"command\":[]}", "not a request"},
        {"{}", "not a request"},
        {"[]", "not a request"},
        {"", "not a request"},
        {"list", "not a request"},
        {"{\"command\":\"list\"", "not a request"},
        {"[[[[[[[[[[[[[[[[[[[[[[", "not a request"},
    };
    struct snapshot *snapshot = two_vms();
    struct json_object *answer;

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        answer = ask(snapshot, cases[i].request);
        if (!strstr(text_of(answer, "error"), cases[i].error))
            fail_msg("%s: %s", cases[i].request, text_of(answer, "error"));
        json_object_put(answer);
    }
    answer = ask(NULL, "{\"command\":\"list\"}");
    assert_non_null(strstr(text_of(answer, "error"), "no interval"));
    json_object_put(answer);
    snapshot_free(snapshot);
}

/* What is asked shows before it is done; the answer tells what became of it. */
static void test_prepare(void **state)
{
    static const char request[] =
        "{\"command\":\"prepare\",\"vm\":\"00000000-0000-0000-0000-000000000002\"}\n";
    static const char *const others[] = {
        "{\"command\":\"show\",\"vm\":\"00000000-0000-0000-0000-000000000002\"}",
        "{\"command\":\"prepare\",\"vm\":\"00000000-0000-0000-0000-00000000000\"}",
        "{\"command\":\"prepare\"",
        "[\"prepare\"]",
        "prepare",
        "",
    };
    struct snapshot *snapshot = two_vms();
    struct json_object *answer;
    uuid_t uuid;

    assert_true(control_asks_prepare(request, strlen(request), uuid));
    assert_memory_equal(uuid, snapshot->vms[1].uuid, sizeof(uuid));
    for (size_t i = 0; i < ELEMENTS(others); i++)
        assert_false(control_asks_prepare(others[i], strlen(others[i]), uuid));
    answer = ask(snapshot, request);
    assert_string_equal(text_of(answer, "tree"), "/vms/00000000-0000-0000-0000-000000000002");
    json_object_put(answer);
    snapshot->vms[1].has_tree = false;
    answer = ask(snapshot, request);
    assert_non_null(strstr(text_of(answer, "error"), "could not be made"));
    json_object_put(answer);
    snapshot_free(snapshot);
}

/* Two sources measured one zone, one after the other: a VM's energy is the sum. */
static void test_zone_of_two_sources(void **state)
{
    struct snapshot *snapshot = two_vms();
    struct json_object *answer;

    snapshot->n_zones = 2;
    snapshot->zones[1] = snapshot->zones[0];
    snapshot->zones[1].zone.source = "modelled";
    snapshot->vms[0].dynamic_uj[1] = 2000000;
    answer = ask(snapshot, "{\"command\":\"show\",\"vm\":\"web\"}");
    assert_string_equal(text_of(json_object_object_get(answer, "energy_joules"), "package-0"),
                        "3.000001");
    json_object_put(answer);
    answer = ask(snapshot, "{\"command\":\"show\"}");
    assert_string_equal(
        text_of(json_object_array_get_idx(json_object_object_get(answer, "zones"), 1), "source"),
        "modelled");
    json_object_put(answer);
    snapshot_free(snapshot);
}

/* `virtjoule show --host` says how the meters are. */
static void test_meters(void **state)
{
    struct snapshot *snapshot = two_vms();
    struct json_object *answer;
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    snapshot->time_ns = 10000000000;
    snapshot->source = "modelled";
    snapshot->estimate = false;
    fixture_meters(snapshot);
    answer = ask(snapshot, "{\"command\":\"show\"}");
    print_host(stream, answer);
    fclose(stream);
    assert_null(strstr(text, "ESTIMATE"));
    assert_non_null(strstr(text, "MODELLED"));
    assert_non_null(strstr(text, "364.000"));
    assert_non_null(strstr(text, "2.500  ok, trusted, used\n"));
    assert_non_null(strstr(text, "learned: 177.800 W (+- 1.500) + 1.334 (+- 0.010) x processors + "
                                 "20.000 J per GB, 3.500 s late\n"));
    assert_non_null(strstr(text, "-  silent, silent\n"));
    assert_non_null(strstr(text, "relation to the processors: learning\n"));
    free(text);
    json_object_put(answer);
    snapshot_free(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_zone_of_two_sources),
        cmocka_unit_test(test_meters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
