/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/https_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "util/cleanup.h"

#define REDIRECTIONS_MAX 3

struct https_client {
    sd_event *event;
    sd_event_source *timer; /* libcurl's */
    CURLM *multi;
    CURL *easy; /* kept: so is its connection */
    char *ca_file;
    size_t body_max;
    https_handler handler;
    void *userdata;

    bool open; /* a request is under way */
    int redirections;
    bool too_long;
    struct buffer body;
    char error[CURL_ERROR_SIZE];
};

static void check_done(struct https_client *client);

/* libcurl's sockets and timer. */

static int on_socket_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct https_client *client = userdata;
    int actions = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                  (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                  (events & EPOLLERR ? CURL_CSELECT_ERR : 0);
    int running;

    curl_multi_socket_action(client->multi, fd, actions, &running);
    check_done(client);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct https_client *client = userdata;
    int running;

    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    check_done(client);
    return 0;
}

/* The socket's event source is kept with it by libcurl. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *of_socket)
{
    struct https_client *client = userdata;
    sd_event_source *source = of_socket;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

    if (what == CURL_POLL_REMOVE) {
        sd_event_source_disable_unref(source);
        return 0;
    }
    if (source)
        return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
    if (sd_event_add_io(client->event, &source, fd, events, on_socket_ready, client) < 0)
        return -1;
    return curl_multi_assign(client->multi, fd, source) == CURLM_OK ? 0 : -1;
}

static int set_timer(CURLM *multi, long timeout_ms, void *userdata)
{
    const struct https_client *client = userdata;

    if (timeout_ms < 0)
        return sd_event_source_set_enabled(client->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
    if (sd_event_source_set_time_relative(client->timer, (uint64_t)timeout_ms * 1000) < 0)
        return -1;
    return sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static size_t take_body(char *data, size_t size, size_t n, void *userdata)
{
    struct https_client *client = userdata;

    if (n > client->body_max - client->body.size) {
        client->too_long = true;
        return 0;
    }
    return buffer_append(&client->body, data, n) == 0 ? n : 0;
}

/* How a request ended. */

static void fail(struct https_response *response, enum meter_state state, const char *detail)
{
    response->state = state;
    response->detail = detail;
}

static void judge_result(const struct https_client *client, CURLcode code,
                         struct https_response *ret)
{
    const char *detail = client->error[0] ? client->error : curl_easy_strerror(code);

    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
        fail(ret, METER_UNTRUSTED, detail);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        fail(ret, METER_ABSENT, detail);
        break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        fail(ret, METER_SILENT, detail);
        break;
    default:
        fail(ret, METER_MALFORMED, client->too_long ? "the answer is too long" : detail);
    }
}

static void judge_status(struct https_response *ret)
{
    switch (ret->status) {
    case 200:
        ret->state = METER_OK;
        break;
    case 401:
    case 403:
        fail(ret, METER_UNAUTHORISED, "user or password refused");
        break;
    case 404:
    case 405:
    case 410:
        fail(ret, METER_ABSENT, "no such resource");
        break;
    default:
        if (ret->status == 429 || ret->status >= 500)
            fail(ret, METER_BUSY, "the service cannot answer now");
        else
            fail(ret, METER_MALFORMED, "unexpected HTTP status");
    }
}

static CURLU *parse_url(const char *text)
{
    CURLU *url = curl_url();

    if (url && curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
        curl_url_cleanup(url);
        return NULL;
    }
    return url;
}
DEFINE_CLEANUP(CURLU *, curl_url_cleanup);

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *of_a = NULL, *of_b = NULL;
    bool same = curl_url_get(a, part, &of_a, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &of_b, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                strcasecmp(of_a, of_b) == 0;

    curl_free(of_a);
    curl_free(of_b);
    return same;
}

/* May the same password go there? */
static bool is_same_server(const char *a, const char *b)
{
    _cleanup_(cleanup_curl_url_cleanup) CURLU *of_a = parse_url(a);
    _cleanup_(cleanup_curl_url_cleanup) CURLU *of_b = parse_url(b);

    return of_a && of_b && same_part(of_a, of_b, CURLUPART_SCHEME) &&
           same_part(of_a, of_b, CURLUPART_HOST) && same_part(of_a, of_b, CURLUPART_PORT);
}

static int send_request(struct https_client *client)
{
    buffer_deinit(&client->body);
    client->too_long = false;
    client->error[0] = '\0';
    client->open = curl_multi_add_handle(client->multi, client->easy) == CURLM_OK;
    return client->open ? 0 : -EIO;
}

/* @return whether the request goes on elsewhere on the same server */
static bool follow(struct https_client *client, struct https_response *ret)
{
    char *target = NULL, *from = NULL;

    curl_easy_getinfo(client->easy, CURLINFO_REDIRECT_URL, &target);
    curl_easy_getinfo(client->easy, CURLINFO_EFFECTIVE_URL, &from);
    if (!target)
        return false;
    if (!is_same_server(from, target)) {
        fail(ret, METER_UNTRUSTED, "redirected to another server");
        return false;
    }
    if (++client->redirections > REDIRECTIONS_MAX) {
        fail(ret, METER_MALFORMED, "redirected again and again");
        return false;
    }
    return curl_easy_setopt(client->easy, CURLOPT_URL, target) == CURLE_OK &&
           send_request(client) == 0;
}

static void end_request(struct https_client *client, CURLcode code)
{
    struct https_response response = {.detail = ""};

    curl_multi_remove_handle(client->multi, client->easy);
    client->open = false;
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &response.status);
    if (code == CURLE_OK)
        judge_status(&response);
    else
        judge_result(client, code, &response);
    if (code == CURLE_OK && response.state == METER_MALFORMED && follow(client, &response))
        return;
    if (response.state == METER_OK) {
        response.body = client->body.bytes ? (const char *)client->body.bytes : "";
        response.length = client->body.size;
    }
    client->handler(&response, client->userdata);
}

static void check_done(struct https_client *client)
{
    const CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left)))
        if (message->msg == CURLMSG_DONE && client->open)
            end_request(client, message->data.result);
}

int https_get(struct https_client *client, const char *url, const char *user, const char *password)
{
    CURL *easy = client->easy;

    client->redirections = 0;
    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_USERNAME, user) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PASSWORD, password) != CURLE_OK)
        return -ENOMEM;
    return send_request(client);
}

void https_cancel(struct https_client *client)
{
    if (client->open)
        curl_multi_remove_handle(client->multi, client->easy);
    client->open = false;
}

struct https_client *https_client_free(struct https_client *client)
{
    if (!client)
        return NULL;
    if (client->multi)
        https_cancel(client);
    curl_easy_cleanup(client->easy);
    curl_multi_cleanup(client->multi);
    sd_event_source_disable_unref(client->timer);
    sd_event_unref(client->event);
    buffer_deinit(&client->body);
    free(client->ca_file);
    free(client);
    return NULL;
}
DEFINE_CLEANUP(struct https_client *, https_client_free);

static bool set_easy_options(struct https_client *client)
{
    CURL *easy = client->easy;

    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
           (!client->ca_file ||
            (curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file) == CURLE_OK &&
             curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK)) &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           /* A name that does not resolve holds up no end. */
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, client) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->error) == CURLE_OK;
}

static bool set_multi_options(struct https_client *client)
{
    CURLM *multi = client->multi;

    return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer) == CURLM_OK &&
           curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client) == CURLM_OK;
}

static void init_library(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int https_client_new(struct https_client **ret, sd_event *event, const char *ca_file,
                     size_t body_max, https_handler handler, void *userdata)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    _cleanup_(cleanup_https_client_free) struct https_client *client = calloc(1, sizeof(*client));
    int r;

    if (!client)
        return -ENOMEM;
    pthread_once(&once, init_library);
    client->event = sd_event_ref(event);
    client->body_max = body_max;
    client->handler = handler;
    client->userdata = userdata;
    client->ca_file = ca_file ? strdup(ca_file) : NULL;
    client->multi = curl_multi_init();
    client->easy = curl_easy_init();
    if ((ca_file && !client->ca_file) || !client->multi || !client->easy)
        return -ENOMEM;
    r = sd_event_add_time_relative(event, &client->timer, CLOCK_MONOTONIC, 0, 1000, on_timer,
                                   client);
    if (r < 0)
        return r;
    sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
    if (!set_easy_options(client) || !set_multi_options(client))
        return -ENOTSUP;
    *ret = TAKE_PTR(client);
    return 0;
}
