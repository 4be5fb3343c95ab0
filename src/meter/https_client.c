/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "meter/https_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "util/buffer.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/macros.h"

#define REDIRECTIONS_MAX 3

struct https_client {
    CURL *easy; /* kept between requests, which keeps its connection open */
    size_t body_max;
    struct buffer body;
    bool too_long;
    char error[CURL_ERROR_SIZE];
};

static size_t take_body(char *data, size_t size, size_t n, void *userdata)
{
    struct https_client *client = userdata;

    if (n > client->body_max - client->body.size) {
        client->too_long = true;
        return 0;
    }
    return buffer_append(&client->body, data, n) == 0 ? n : 0;
}

static void fail(struct https_response *response, enum meter_state state, const char *detail)
{
    response->state = state;
    response->detail = detail;
}

/* libcurl's own texts say more than a constant one. */
static const struct meter_code results[] = {
    {CURLE_PEER_FAILED_VERIFICATION, METER_UNTRUSTED, NULL},
    {CURLE_SSL_ISSUER_ERROR, METER_UNTRUSTED, NULL},
    {CURLE_SSL_CACERT_BADFILE, METER_UNTRUSTED, NULL},
    {CURLE_COULDNT_RESOLVE_HOST, METER_ABSENT, NULL},
    {CURLE_COULDNT_CONNECT, METER_SILENT, NULL},
    {CURLE_OPERATION_TIMEDOUT, METER_SILENT, NULL},
    {CURLE_GOT_NOTHING, METER_SILENT, NULL},
    {CURLE_RECV_ERROR, METER_SILENT, NULL},
    {CURLE_SEND_ERROR, METER_SILENT, NULL},
    {METER_CODE_OTHER, METER_MALFORMED, NULL},
};

static void judge_result(const struct https_client *client, CURLcode result,
                         struct https_response *ret)
{
    const char *detail = client->error[0] ? client->error : curl_easy_strerror(result);

    fail(ret, meter_find_code(results, result)->state,
         client->too_long ? "the answer is too long" : detail);
}

static const struct meter_code statuses[] = {
    {200, METER_OK, ""},
    {401, METER_UNAUTHORISED, "user or password refused"},
    {403, METER_UNAUTHORISED, "user or password refused"},
    {404, METER_ABSENT, "no such resource"},
    {405, METER_ABSENT, "no such resource"},
    {410, METER_ABSENT, "no such resource"},
    {429, METER_BUSY, "the service cannot answer now"},
    {METER_CODE_OTHER, METER_MALFORMED, "unexpected HTTP status"},
};

static void judge_status(struct https_response *ret)
{
    /* Every 5xx is a failure of the service itself, which may pass, as with 429. */
    const struct meter_code *row =
        meter_find_code(statuses, ret->status >= 500 ? 429 : ret->status);

    fail(ret, row->state, row->detail);
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

/* Whether the same password may be sent there. */
static bool is_same_server(const char *a, const char *b)
{
    _cleanup_(cleanup_curl_url_cleanup) CURLU *of_a = parse_url(a);
    _cleanup_(cleanup_curl_url_cleanup) CURLU *of_b = parse_url(b);

    return of_a && of_b && same_part(of_a, of_b, CURLUPART_SCHEME) &&
           same_part(of_a, of_b, CURLUPART_HOST) && same_part(of_a, of_b, CURLUPART_PORT);
}

/* Checks where a redirection leads. @return whether the request goes on there, on the same server
 */
static bool follow(const struct https_client *client, int *redirections, struct https_response *ret)
{
    char *target = NULL, *from = NULL;

    curl_easy_getinfo(client->easy, CURLINFO_REDIRECT_URL, &target);
    curl_easy_getinfo(client->easy, CURLINFO_EFFECTIVE_URL, &from);
    if (ret->state != METER_MALFORMED || !target)
        return false;
    if (!is_same_server(from, target)) {
        fail(ret, METER_UNTRUSTED, "redirected to another server");
        return false;
    }
    if (++*redirections > REDIRECTIONS_MAX) {
        fail(ret, METER_MALFORMED, "redirected again and again");
        return false;
    }
    return curl_easy_setopt(client->easy, CURLOPT_URL, target) == CURLE_OK;
}

static void perform(struct https_client *client, uint64_t end_ns, struct https_response *ret)
{
    uint64_t now = now_ns();
    long timeout_ms = end_ns > now ? (long)((end_ns - now) / NSEC_PER_MSEC) : 0;
    CURLcode result;

    *ret = (struct https_response){.detail = ""};
    buffer_deinit(&client->body);
    client->too_long = false;
    client->error[0] = '\0';
    /* A timeout of 0 would be none. */
    curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, timeout_ms + 1);
    result = curl_easy_perform(client->easy);
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &ret->status);
    if (result == CURLE_OK)
        judge_status(ret);
    else
        judge_result(client, result, ret);
}

void https_get(struct https_client *client, const char *url, const char *user, const char *password,
               uint64_t end_ns, struct https_response *ret)
{
    CURL *easy = client->easy;
    int redirections = 0;

    *ret = (struct https_response){.state = METER_ABSENT, .detail = "out of memory"};
    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_USERNAME, user) != CURLE_OK ||
        curl_easy_setopt(easy, CURLOPT_PASSWORD, password) != CURLE_OK)
        return;
    do
        perform(client, end_ns, ret);
    while (follow(client, &redirections, ret));
    ret->body = client->body.bytes ? (const char *)client->body.bytes : "";
    ret->length = client->body.size;
}

struct https_client *https_client_free(struct https_client *client)
{
    if (!client)
        return NULL;
    curl_easy_cleanup(client->easy);
    buffer_deinit(&client->body);
    free(client);
    return NULL;
}
DEFINE_CLEANUP(struct https_client *, https_client_free);

static bool set_options(struct https_client *client, const char *ca_file)
{
    CURL *easy = client->easy;

    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
           (!ca_file[0] || (curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file) == CURLE_OK &&
                            curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK)) &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           /* Do not wait for a pending look-up of a name when the time is over. */
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, client) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->error) == CURLE_OK;
}

static void init_library(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int https_client_new(struct https_client **ret, const char *ca_file, size_t body_max)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    _cleanup_(cleanup_https_client_free) struct https_client *client = calloc(1, sizeof(*client));

    if (!client)
        return -ENOMEM;
    pthread_once(&once, init_library);
    client->body_max = body_max;
    client->easy = curl_easy_init();
    if (!client->easy)
        return -ENOMEM;
    if (!set_options(client, ca_file))
        return -ENOTSUP;
    *ret = TAKE_PTR(client);
    return 0;
}
