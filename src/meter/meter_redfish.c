/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter_redfish.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meter/credentials.h"
#include "meter/https_client.h"
#include "meter/meter_threaded.h"
#include "meter/redfish.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* For the whole question, which may be a search: BMCs take a second or more for each answer. */
#define ANSWER_TIMEOUT_NS (60 * NSEC_PER_SEC)
#define CHASSIS_PATH "/redfish/v1/Chassis"

struct redfish_reader {
    struct https_client *client;
    char credentials[CONFIG_PATH_MAX];
    char server[CONFIG_PATH_MAX];    /* the URL up to the path */
    bool given;                      /* the resource was given, not found */
    char resource[REDFISH_PATH_MAX]; /* with the figure; empty: to be searched for */
    uint64_t end_ns;                 /* CLOCK_MONOTONIC at which the question is given up */
};

/* Requests one resource. A failure is the outcome's. @return the response's state */
static enum meter_state get(struct redfish_reader *reader, const char *path,
                            struct https_response *ret, struct meter_outcome *outcome)
{
    struct credentials credentials = {0};
    char url[CONFIG_PATH_MAX + REDFISH_PATH_MAX];
    bool with_file = reader->credentials[0];

    /* The file is read for each request: a password that changes is no reason for a restart. */
    if (with_file && !meter_load_credentials(reader->credentials, &credentials, outcome))
        return outcome->state;
    snprintf(url, sizeof(url), "%s%s", reader->server, path);
    https_get(reader->client, url, with_file ? credentials.user : NULL,
              with_file ? credentials.password : NULL, reader->end_ns, ret);
    credentials_deinit(&credentials);
    if (ret->state != METER_OK)
        meter_outcome_fail(outcome, ret->state, "%.80s: %.64s", path, ret->detail);
    return ret->state;
}

/* Takes the parser's word on the content of a resource. A failure is the outcome's. */
static enum meter_state judge(const char *path, enum meter_state state,
                              struct meter_outcome *outcome)
{
    if (state != METER_OK)
        meter_outcome_fail(outcome, state, "%.80s: %s", path,
                           state == METER_ABSENT ? "tells no power"
                                                 : "not a JSON resource of Redfish");
    return state;
}

static enum meter_state get_links(struct redfish_reader *reader, const char *path,
                                  struct redfish_links *ret, struct meter_outcome *outcome)
{
    struct https_response response = {0};
    enum meter_state state = get(reader, path, &response, outcome);

    ret->n = 0;
    if (state != METER_OK)
        return state;
    return judge(path, redfish_parse_links(response.body, response.length, ret), outcome);
}

static enum meter_state get_power(struct redfish_reader *reader, const char *path,
                                  struct meter_outcome *outcome)
{
    struct meter_reading *reading = &outcome->reading;
    struct https_response response = {0};
    enum meter_state state = get(reader, path, &response, outcome);

    if (state == METER_OK)
        state = judge(path,
                      redfish_parse_power(response.body, response.length, &reading->power_uw,
                                          &reading->resolution_uw),
                      outcome);
    outcome->state = state;
    return state;
}

/* Looks behind one chassis. @return METER_ABSENT: it has no figure */
static enum meter_state search_chassis(struct redfish_reader *reader, const char *path,
                                       struct meter_outcome *outcome)
{
    struct redfish_links powers;
    enum meter_state state = get_links(reader, path, &powers, outcome);

    if (state != METER_OK)
        return state;
    state = METER_ABSENT;
    for (size_t i = 0; i < powers.n && state == METER_ABSENT; i++) {
        state = get_power(reader, powers.paths[i], outcome);
        if (state == METER_OK)
            memcpy(reader->resource, powers.paths[i], sizeof(reader->resource));
    }
    return state;
}

static void search(struct redfish_reader *reader, struct meter_outcome *outcome)
{
    struct redfish_links chassis;
    enum meter_state state = METER_ABSENT;

    if (get_links(reader, CHASSIS_PATH, &chassis, outcome) != METER_OK)
        return;
    for (size_t i = 0; i < chassis.n && state == METER_ABSENT; i++)
        state = search_chassis(reader, chassis.paths[i], outcome);
    if (state == METER_ABSENT)
        meter_outcome_fail(outcome, METER_ABSENT, "no chassis tells its power");
}

static void redfish_read(void *data, struct meter_outcome *ret)
{
    struct redfish_reader *reader = data;

    reader->end_ns = now_ns() + ANSWER_TIMEOUT_NS;
    if (!reader->resource[0])
        search(reader, ret);
    /* A figure that was found before and is no more is searched for by the next question. */
    else if (get_power(reader, reader->resource, ret) == METER_ABSENT && !reader->given)
        reader->resource[0] = '\0';
}

static void redfish_free(void *data)
{
    struct redfish_reader *reader = data;

    https_client_free(reader->client);
    free(reader);
}
DEFINE_CLEANUP(struct redfish_reader *, redfish_free);

static const struct meter_reader_ops redfish_ops = {
    .name = "redfish",
    .read = redfish_read,
    .free = redfish_free,
};

/* "https://host/path": a path other than "/" is the resource. */
static void split_url(struct redfish_reader *reader, const char *url)
{
    size_t length = strlen("https://");

    assert(strncmp(url, "https://", length) == 0);
    length += strcspn(url + length, "/");
    snprintf(reader->server, sizeof(reader->server), "%.*s", (int)length, url);
    reader->given = strlen(url + length) > 1;
    if (reader->given)
        snprintf(reader->resource, sizeof(reader->resource), "%s", url + length);
}

int meter_redfish_new(struct meter **ret, const struct meter_host *host,
                      const struct redfish_options *options)
{
    _cleanup_(cleanup_redfish_free) struct redfish_reader *reader = NULL;
    int r;

    if (!options->url[0])
        return 0;
    reader = calloc(1, sizeof(*reader));
    if (!reader)
        return -ENOMEM;
    split_url(reader, options->url);
    memcpy(reader->credentials, options->credentials, sizeof(reader->credentials));
    r = https_client_new(&reader->client, options->ca_file, REDFISH_BODY_MAX);
    if (r == 0)
        r = meter_threaded_new(ret, host->event, &redfish_ops, reader, options->interval_ns,
                               ANSWER_TIMEOUT_NS);
    if (r == 0)
        (void)TAKE_PTR(reader);
    return r;
}
