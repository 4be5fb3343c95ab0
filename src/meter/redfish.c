/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/redfish.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

#include "util/cleanup.h"

/* Deeper than any resource of the schemas. */
#define DEPTH_MAX 32

static void put_json(struct json_object *json)
{
    json_object_put(json);
}
DEFINE_CLEANUP(struct json_object *, put_json);

/* @return an object; NULL if the text is none, or if more follows the object */
static struct json_object *parse_object(const char *body, size_t length)
{
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    struct json_object *json;

    if (!tokener)
        return NULL;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json = length <= REDFISH_BODY_MAX ? json_tokener_parse_ex(tokener, body, (int)length) : NULL;
    /* A service may end its answer with a newline; the parser takes an object without one. */
    for (size_t i = json ? json_tokener_get_parse_end(tokener) : length; i < length; i++)
        if (!strchr(" \t\r\n", body[i]) || body[i] == '\0') {
            put_json(json);
            json = NULL;
            break;
        }
    json_tokener_free(tokener);
    if (json && !json_object_is_type(json, json_type_object)) {
        put_json(json);
        return NULL;
    }
    return json;
}

static struct json_object *get(const struct json_object *json, const char *key,
                               enum json_type expected)
{
    struct json_object *value;

    if (!json_object_object_get_ex(json, key, &value) || !json_object_is_type(value, expected))
        return NULL;
    return value;
}

/* "//host/path" would be a path on another server. */
static bool is_path(const char *text, size_t length)
{
    if (length == 0 || length >= REDFISH_PATH_MAX || text[0] != '/' || text[1] == '/')
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '\\')
            return false;
    return true;
}

static void add_link(const struct json_object *target, struct redfish_links *links)
{
    struct json_object *id = json_object_is_type(target, json_type_object)
                                 ? get(target, "@odata.id", json_type_string)
                                 : NULL;

    size_t length = id ? (size_t)json_object_get_string_len(id) : 0;

    if (links->n < REDFISH_LINKS_MAX && id && is_path(json_object_get_string(id), length))
        memcpy(links->paths[links->n++], json_object_get_string(id), length + 1);
}

enum meter_state redfish_parse_links(const char *body, size_t length, struct redfish_links *links)
{
    _cleanup_(cleanup_put_json) struct json_object *json = parse_object(body, length);
    struct json_object *members;

    if (!json)
        return METER_MALFORMED;
    members = get(json, "Members", json_type_array);
    for (size_t i = 0; members && i < json_object_array_length(members); i++)
        add_link(json_object_array_get_idx(members, i), links);
    add_link(get(json, "EnvironmentMetrics", json_type_object), links);
    add_link(get(json, "Power", json_type_object), links);
    return METER_OK;
}

/* @return METER_OK, METER_ABSENT if the value is null or missing, METER_MALFORMED for another type
 */
static enum meter_state take_watts(const struct json_object *json, const char *key,
                                   uint64_t *ret_power_uw, uint64_t *ret_resolution_uw)
{
    struct json_object *value;
    double watts;

    if (!json_object_object_get_ex(json, key, &value) || !value)
        return METER_ABSENT;
    if (!json_object_is_type(value, json_type_int) && !json_object_is_type(value, json_type_double))
        return METER_MALFORMED;
    watts = json_object_get_double(value);
    if (!isfinite(watts))
        return METER_MALFORMED;
    /* Figures that no machine draws are all absurd: it is enough to keep them in range. */
    watts = fmin(fmax(watts, 0), 1e9);
    *ret_power_uw = (uint64_t)(watts * 1e6 + 0.5);
    *ret_resolution_uw = watts == floor(watts) ? 1000000 : 100000;
    return METER_OK;
}

/* Takes the control of the whole chassis: others limit a processor or a module. */
static enum meter_state take_control(const struct json_object *controls, uint64_t *ret_power_uw,
                                     uint64_t *ret_resolution_uw)
{
    for (size_t i = 0; i < json_object_array_length(controls); i++) {
        const struct json_object *control = json_object_array_get_idx(controls, i);
        struct json_object *context;
        enum meter_state state;

        if (!json_object_is_type(control, json_type_object))
            return METER_MALFORMED;
        context = get(control, "PhysicalContext", json_type_string);
        if (context && strcmp(json_object_get_string(context), "Chassis") != 0)
            continue;
        state = take_watts(control, "PowerConsumedWatts", ret_power_uw, ret_resolution_uw);
        if (state != METER_ABSENT)
            return state;
    }
    return METER_ABSENT;
}

enum meter_state redfish_parse_power(const char *body, size_t length, uint64_t *ret_power_uw,
                                     uint64_t *ret_resolution_uw)
{
    _cleanup_(cleanup_put_json) struct json_object *json = parse_object(body, length);
    struct json_object *value;

    if (!json)
        return METER_MALFORMED;
    value = get(json, "PowerControl", json_type_array);
    if (value)
        return take_control(value, ret_power_uw, ret_resolution_uw);
    value = get(json, "PowerWatts", json_type_object);
    return value ? take_watts(value, "Reading", ret_power_uw, ret_resolution_uw) : METER_ABSENT;
}
