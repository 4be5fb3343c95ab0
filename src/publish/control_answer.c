/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "publish/control.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/utf8.h"

/* Takes about a millisecond: a tick that is due meanwhile is not late. */
#define VMS_PER_PART 64

typedef struct json_object json;

static void json_release(json *object)
{
    json_object_put(object);
}
DEFINE_CLEANUP(json *, json_release);
DEFINE_CLEANUP(struct json_tokener *, json_tokener_free);

static json *json_joules(uint64_t energy_uj)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64, energy_uj / 1000000,
             energy_uj % 1000000);
    return json_object_new_double_s((double)energy_uj / 1e6, text);
}

static json *json_decimal(double value)
{
    char text[32];

    snprintf(text, sizeof(text), "%.3f", value);
    return json_object_new_double_s(value, text);
}

static json *json_zone_joules(const struct snapshot *snapshot, const uint64_t *energy_uj)
{
    json *object = json_object_new_object();

    /* Two sources may have measured one zone, one after the other. */
    for (size_t i = 0; i < snapshot->n_zones; i++) {
        const char *name = snapshot->zones[i].zone.name;
        uint64_t sum_uj = 0;

        for (size_t other = 0; other < snapshot->n_zones; other++)
            if (strcmp(snapshot->zones[other].zone.name, name) == 0)
                sum_uj += energy_uj[other];
        json_object_object_add(object, name, json_joules(sum_uj));
    }
    return object;
}

/* The mean power over the last interval. */
static double vm_watts(const struct snapshot *snapshot, const struct snapshot_vm *vm)
{
    const struct ramp *ramp = &vm->tree[TREE_PACKAGE];

    if (!vm->running)
        return 0;
    return (double)(ramp->to_uj - ramp->from_uj) / 1e6 /
           ((double)snapshot->interval_ns / (double)NSEC_PER_SEC);
}

static json *json_vm(const struct snapshot *snapshot, const struct snapshot_vm *vm,
                     const char *mountpoint)
{
    json *object = json_object_new_object();
    char name[VM_NAME_MAX * UTF8_REPLACEMENT_LENGTH], tree[512];

    utf8_replace_invalid(vm->name, name, sizeof(name));
    snprintf(tree, sizeof(tree), "%s/%s", mountpoint, vm->uuid_text);
    json_object_object_add(object, "uuid", json_object_new_string(vm->uuid_text));
    json_object_object_add(object, "name", json_object_new_string(name));
    json_object_object_add(object, "running", json_object_new_boolean(vm->running));
    json_object_object_add(object, "manager",
                           json_object_new_string(vm_manager_to_string(vm->manager)));
    json_object_object_add(object, "vcpus", json_object_new_int64(vm->vcpus));
    json_object_object_add(object, "package_watts", json_decimal(vm_watts(snapshot, vm)));
    json_object_object_add(object, "energy_joules", json_zone_joules(snapshot, vm->dynamic_uj));
    json_object_object_add(object, "static_energy_joules",
                           json_zone_joules(snapshot, vm->static_uj));
    json_object_object_add(object, "cpu_seconds", json_decimal((double)vm->cpu_ns / 1e9));
    json_object_object_add(object, "memory_bytes", json_object_new_uint64(vm->memory_bytes));
    json_object_object_add(object, "block_io_bytes", json_object_new_uint64(vm->io_bytes));
    json_object_object_add(object, "tree_reads", json_object_new_uint64(vm->tree_reads));
    json_object_object_add(object, "tree", vm->has_tree ? json_object_new_string(tree) : NULL);
    return object;
}

static json *json_static_power(const struct static_power *static_power)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "watts", json_decimal((double)static_power->power_uw / 1e6));
    json_object_object_add(object, "uncertainty_watts",
                           static_power->uncertainty_uw
                               ? json_decimal((double)static_power->uncertainty_uw / 1e6)
                               : NULL);
    json_object_object_add(object, "origin",
                           json_object_new_string(static_origin_to_string(static_power->origin)));
    json_object_object_add(object, "state",
                           json_object_new_string(static_state_to_string(static_power->state)));
    return object;
}

static json *json_zone(const struct snapshot_zone *zone)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "name", json_object_new_string(zone->zone.name));
    json_object_object_add(object, "source",
                           zone->zone.source ? json_object_new_string(zone->zone.source) : NULL);
    json_object_object_add(object, "readable", json_object_new_boolean(zone->readable));
    json_object_object_add(object, "measured_joules", json_joules(zone->measured_uj));
    json_object_object_add(object, "host_joules", json_joules(zone->host_uj));
    json_object_object_add(object, "static_joules", json_joules(zone->static_uj));
    json_object_object_add(object, "unattributed_joules", json_joules(zone->unattributed_uj));
    json_object_object_add(object, "baseline", json_static_power(&zone->static_power));
    return object;
}

static json *json_relation(const struct platform_estimate *estimate)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "state",
                           json_object_new_string(static_state_to_string(estimate->state)));
    if (!estimate->known)
        return object;
    json_object_object_add(object, "static_watts", json_decimal(estimate->static_watts));
    json_object_object_add(object, "static_uncertainty_watts",
                           json_decimal(estimate->static_sigma));
    json_object_object_add(object, "slope", json_decimal(estimate->slope));
    json_object_object_add(object, "slope_uncertainty", json_decimal(estimate->slope_sigma));
    json_object_object_add(object, "io_joules_per_gigabyte",
                           json_decimal(estimate->io_joules_per_byte * 1e9));
    json_object_object_add(object, "delay_seconds",
                           json_decimal(estimate->delay_s + estimate->window_s / 2));
    return object;
}

static json *json_meter(const struct snapshot *snapshot, const struct snapshot_meter *meter)
{
    const struct platform_reading *last = &meter->known.last;
    json *object = json_object_new_object();

    json_object_object_add(object, "source", json_object_new_string(meter->source));
    json_object_object_add(object, "state", json_object_new_string(meter->state));
    json_object_object_add(object, "trust",
                           json_object_new_string(platform_trust_to_string(meter->known.trust)));
    json_object_object_add(object, "used", json_object_new_boolean(meter->used));
    json_object_object_add(object, "watts",
                           last->time_ns ? json_decimal((double)last->power_uw / 1e6) : NULL);
    json_object_object_add(object, "age_seconds",
                           last->time_ns
                               ? json_decimal(((double)snapshot->time_ns - (double)last->time_ns) /
                                              (double)NSEC_PER_SEC)
                               : NULL);
    json_object_object_add(object, "relation", json_relation(&meter->known.estimate));
    return object;
}

static json *json_host(const struct snapshot *snapshot)
{
    json *object = json_object_new_object();
    json *zones = json_object_new_array(), *meters = json_object_new_array();

    json_object_object_add(object, "version", json_object_new_string(VIRTJOULE_VERSION));
    json_object_object_add(object, "source", json_object_new_string(snapshot->source));
    json_object_object_add(object, "estimate", json_object_new_boolean(snapshot->estimate));
    json_object_object_add(object, "usage_provider",
                           json_object_new_string(snapshot->usage_provider));
    json_object_object_add(object, "model", json_object_new_string(snapshot->model));
    json_object_object_add(object, "static_policy",
                           json_object_new_string(snapshot->static_policy));
    json_object_object_add(object, "interval_seconds",
                           json_decimal((double)snapshot->interval_ns / 1e9));
    json_object_object_add(object, "ticks", json_object_new_uint64(snapshot->health.ticks));
    json_object_object_add(object, "ticks_missed",
                           json_object_new_uint64(snapshot->health.ticks_missed));
    for (size_t i = 0; i < snapshot->n_zones; i++)
        json_object_array_add(zones, json_zone(&snapshot->zones[i]));
    json_object_object_add(object, "zones", zones);
    for (size_t i = 0; i < snapshot->n_meters; i++)
        json_object_array_add(meters, json_meter(snapshot, &snapshot->meters[i]));
    json_object_object_add(object, "meters", meters);
    return object;
}

static json *json_error(const char *text)
{
    json *object = json_object_new_object();

    json_object_object_add(object, "error", json_object_new_string(text));
    return object;
}

/* By UUID, else by name. */
static const struct snapshot_vm *find_vm(const struct snapshot *snapshot, const char *text)
{
    uuid_t uuid;

    if (uuid_parse(text, uuid) == 0)
        return snapshot_find_uuid(snapshot, uuid);
    for (size_t i = 0; i < snapshot->n_vms; i++)
        if (strcmp(snapshot->vms[i].name, text) == 0)
            return &snapshot->vms[i];
    return NULL;
}

static json *answer_show(const struct snapshot *snapshot, const char *mountpoint, json *vm_name)
{
    const struct snapshot_vm *vm;
    json *object;

    if (!vm_name)
        return json_host(snapshot);
    vm = json_object_is_type(vm_name, json_type_string)
             ? find_vm(snapshot, json_object_get_string(vm_name))
             : NULL;
    if (!vm) {
        object = json_error("no such VM");
        json_object_object_add(object, "not_found", json_object_new_boolean(true));
        return object;
    }
    object = json_vm(snapshot, vm, mountpoint);
    json_object_object_add(object, "source", json_object_new_string(snapshot->source));
    json_object_object_add(object, "estimate", json_object_new_boolean(snapshot->estimate));
    json_object_object_add(object, "model", json_object_new_string(snapshot->model));
    json_object_object_add(object, "static_policy",
                           json_object_new_string(snapshot->static_policy));
    return object;
}

/* @return whether the request asks to prepare a VM; then its UUID is in ret */
static bool get_prepare(json *request, uuid_t ret)
{
    json *command = NULL, *vm = NULL;

    return json_object_is_type(request, json_type_object) &&
           json_object_object_get_ex(request, "command", &command) &&
           json_object_object_get_ex(request, "vm", &vm) &&
           json_object_is_type(command, json_type_string) &&
           json_object_is_type(vm, json_type_string) &&
           strcmp(json_object_get_string(command), "prepare") == 0 &&
           uuid_parse(json_object_get_string(vm), ret) == 0 && !uuid_is_null(ret);
}

static json *answer_prepare(const struct snapshot *snapshot, const char *mountpoint, json *request)
{
    const struct snapshot_vm *vm;
    uuid_t uuid;

    if (!get_prepare(request, uuid))
        return json_error("prepare takes the UUID of a VM");
    vm = snapshot_find_uuid(snapshot, uuid);
    if (!vm || !vm->has_tree)
        return json_error("the VM's tree could not be made");
    return json_vm(snapshot, vm, mountpoint);
}

static json *make_answer(struct control_answer *answer, json *request)
{
    const struct snapshot *snapshot = answer->snapshot;
    const char *mountpoint = answer->mountpoint;
    json *command = NULL;

    if (!json_object_is_type(request, json_type_object) ||
        !json_object_object_get_ex(request, "command", &command) ||
        !json_object_is_type(command, json_type_string))
        return json_error("not a request: expected {\"command\":...}");
    if (!snapshot)
        return json_error("no interval has been measured yet");
    if (strcmp(json_object_get_string(command), "list") == 0) {
        answer->lists_vms = true;
        return json_host(snapshot);
    }
    if (strcmp(json_object_get_string(command), "show") == 0)
        return answer_show(snapshot, mountpoint, json_object_object_get(request, "vm"));
    if (strcmp(json_object_get_string(command), "prepare") == 0)
        return answer_prepare(snapshot, mountpoint, request);
    return json_error("unknown command");
}

/* @return NULL for a text that is no JSON */
static json *parse_request(const char *request, size_t length)
{
    _cleanup_(cleanup_json_tokener_free) struct json_tokener *tokener = json_tokener_new_ex(8);

    return tokener ? json_tokener_parse_ex(tokener, request, (int)length) : NULL;
}

bool control_asks_prepare(const char *request, size_t length, uuid_t ret)
{
    _cleanup_(cleanup_json_release) json *parsed = parse_request(request, length);

    return get_prepare(parsed, ret);
}

static const char *to_text(json *object)
{
    return json_object_to_json_string_ext(object,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

int control_answer_begin(struct control_answer *answer, const char *request, size_t length,
                         char **ret)
{
    _cleanup_(cleanup_json_release) json *parsed = parse_request(request, length);
    _cleanup_(cleanup_json_release) json *reply = make_answer(answer, parsed);
    const char *text = to_text(reply);
    char *part;

    if (!text)
        return -ENOMEM;
    /* The VMs are the object's last member: they come before the brace that closes it. */
    if (asprintf(&part, "%.*s%s", (int)strlen(text) - answer->lists_vms, text,
                 answer->lists_vms ? ",\"vms\":[" : "\n") < 0)
        return -ENOMEM;
    *ret = part;
    return 0;
}

static void write_vms(struct control_answer *answer, FILE *stream)
{
    const struct snapshot *snapshot = answer->snapshot;
    size_t end = answer->next_vm + VMS_PER_PART;

    for (; answer->next_vm < end && answer->next_vm < snapshot->n_vms; answer->next_vm++) {
        _cleanup_(cleanup_json_release) json *vm =
            json_vm(snapshot, &snapshot->vms[answer->next_vm], answer->mountpoint);

        fprintf(stream, "%s%s", answer->next_vm > 0 ? "," : "", to_text(vm));
    }
    answer->lists_vms = answer->next_vm < snapshot->n_vms;
    if (!answer->lists_vms)
        fputs("]}\n", stream);
}

int control_answer_continue(struct control_answer *answer, char **ret)
{
    FILE *stream;
    size_t length;
    char *part = NULL;
    bool failed;

    if (!answer->lists_vms)
        return 0;
    stream = open_memstream(&part, &length);
    if (!stream)
        return -ENOMEM;
    write_vms(answer, stream);
    failed = ferror(stream);
    if (fclose(stream) != 0 || failed) {
        free(part);
        return -ENOMEM;
    }
    *ret = part;
    return 1;
}
