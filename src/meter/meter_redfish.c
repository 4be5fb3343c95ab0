/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/meter_redfish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meter/credentials.h"
#include "meter/https_client.h"
#include "meter/redfish.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

/* For the whole question, which may be a search: BMCs take a second or more for each answer. */
#define ANSWER_TIMEOUT_NS (60 * NSEC_PER_SEC)
#define CHASSIS_PATH "/redfish/v1/Chassis"

/* What is asked for: a link leads to a figure only through the steps before it. */
enum step {
    STEP_COLLECTION,
    STEP_CHASSIS,
    STEP_POWER,
};

struct meter_redfish {
    struct meter meter;
    struct redfish_options options;
    struct https_client *client;

    char server[REDFISH_TEXT_MAX];   /* the URL up to the path */
    bool given;                      /* the resource was given, not found */
    char resource[REDFISH_PATH_MAX]; /* with the figure; empty: to be searched for */

    enum step step;
    char asked[REDFISH_PATH_MAX]; /* by the request under way */
    struct redfish_links chassis; /* of the search: what has not been asked yet */
    struct redfish_links powers;
};

static struct meter_redfish *from_meter(struct meter *meter)
{
    return (struct meter_redfish *)meter;
}

/* The file is read for each request: a password that changes is no reason for a restart. */
static void request(struct meter_redfish *redfish, enum step step, const char *path)
{
    struct credentials credentials = {0};
    char url[REDFISH_TEXT_MAX + REDFISH_PATH_MAX];
    char problem[160];
    bool with_file = redfish->options.credentials[0];
    int r;

    if (with_file && credentials_load(redfish->options.credentials, &credentials, problem,
                                      sizeof(problem)) < 0) {
        meter_fail(&redfish->meter, METER_UNAUTHORISED, problem);
        return;
    }
    redfish->step = step;
    if (path != redfish->asked)
        snprintf(redfish->asked, sizeof(redfish->asked), "%s", path);
    snprintf(url, sizeof(url), "%s%s", redfish->server, path);
    r = https_get(redfish->client, url, with_file ? credentials.user : NULL,
                  with_file ? credentials.password : NULL);
    credentials_deinit(&credentials);
    if (r < 0)
        meter_fail(&redfish->meter, METER_ABSENT, log_errno_text(r));
}

/* The next link of the search, first the last chassis's. */
static void search_on(struct meter_redfish *redfish)
{
    struct redfish_links *links = redfish->powers.n ? &redfish->powers : &redfish->chassis;
    enum step step = redfish->powers.n ? STEP_POWER : STEP_CHASSIS;
    char path[REDFISH_PATH_MAX];

    if (links->n == 0) {
        meter_fail(&redfish->meter, METER_ABSENT, "no chassis tells its power");
        return;
    }
    memcpy(path, links->paths[0], sizeof(path));
    links->n--;
    memmove(links->paths[0], links->paths[1], links->n * sizeof(links->paths[0]));
    request(redfish, step, path);
}

static enum meter_state take_power(struct meter_redfish *redfish,
                                   const struct https_response *response)
{
    struct meter_reading reading = {0};
    enum meter_state state = redfish_parse_power(response->body, response->length,
                                                 &reading.power_uw, &reading.resolution_uw);

    if (state == METER_OK) {
        memcpy(redfish->resource, redfish->asked, sizeof(redfish->resource));
        meter_answer(&redfish->meter, &reading);
    }
    return state;
}

/* Ends one step: the search goes on behind a resource that is not there or tells nothing. A figure
 * that was there and is no more is searched for anew by the next question. */
static void end_step(struct meter_redfish *redfish, enum meter_state state, bool answered,
                     const char *detail)
{
    bool searching = !redfish->resource[0] && redfish->step != STEP_COLLECTION;

    if (state == METER_OK || (state == METER_ABSENT && answered && searching)) {
        search_on(redfish);
        return;
    }
    if (state == METER_ABSENT && answered && !redfish->given)
        redfish->resource[0] = '\0';
    meter_fail(&redfish->meter, state, detail);
}

static void on_response(const struct https_response *response, void *userdata)
{
    struct meter_redfish *redfish = userdata;
    enum meter_state state = response->state;
    const char *detail = response->detail;
    char text[160];

    if (state == METER_OK) {
        switch (redfish->step) {
        case STEP_COLLECTION:
            state = redfish_parse_links(response->body, response->length, &redfish->chassis);
            break;
        case STEP_CHASSIS:
            state = redfish_parse_links(response->body, response->length, &redfish->powers);
            break;
        case STEP_POWER:
            state = take_power(redfish, response);
            if (state == METER_OK)
                return;
        }
        detail = state == METER_ABSENT ? "tells no power" : "not a JSON resource of Redfish";
    }
    snprintf(text, sizeof(text), "%.80s: %.64s", redfish->asked, detail);
    end_step(redfish, state, response->status != 0, text);
}

static void redfish_ask(struct meter *meter)
{
    struct meter_redfish *redfish = from_meter(meter);

    if (redfish->resource[0]) {
        request(redfish, STEP_POWER, redfish->resource);
        return;
    }
    redfish->chassis.n = redfish->powers.n = 0;
    request(redfish, STEP_COLLECTION, CHASSIS_PATH);
}

static void redfish_cancel(struct meter *meter)
{
    https_cancel(from_meter(meter)->client);
}

static void redfish_free(struct meter *meter)
{
    struct meter_redfish *redfish = from_meter(meter);

    https_client_free(redfish->client);
    free(redfish);
}

static const struct meter_ops redfish_ops = {
    .name = "redfish",
    .ask = redfish_ask,
    .cancel = redfish_cancel,
    .free = redfish_free,
};

/* "https://host/path": a path other than "/" is the resource. */
static void split_url(struct meter_redfish *redfish)
{
    const char *url = redfish->options.url;
    size_t length = strlen("https://");

    length += strcspn(url + length, "/");
    snprintf(redfish->server, sizeof(redfish->server), "%.*s", (int)length, url);
    redfish->given = strlen(url + length) > 1;
    if (redfish->given)
        snprintf(redfish->resource, sizeof(redfish->resource), "%s", url + length);
}

int meter_redfish_new(struct meter **ret, sd_event *event, const struct redfish_options *options)
{
    _cleanup_free_ struct meter_redfish *redfish = calloc(1, sizeof(*redfish));
    int r;

    if (!redfish)
        return -ENOMEM;
    if (strncmp(options->url, "https://", strlen("https://")) != 0)
        return -EINVAL;
    redfish->meter.ops = &redfish_ops;
    redfish->meter.interval_ns = options->interval_ns;
    redfish->meter.timeout_ns = ANSWER_TIMEOUT_NS;
    redfish->options = *options;
    split_url(redfish);
    r = https_client_new(&redfish->client, event, options->ca_file[0] ? options->ca_file : NULL,
                         REDFISH_BODY_MAX, on_response, redfish);
    if (r < 0)
        return r;
    *ret = &TAKE_PTR(redfish)->meter;
    return 0;
}
