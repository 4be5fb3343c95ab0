/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The parser that runs in the kernel: messages whole, in pieces, and hostile ones. */

#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "shared/http_words.h"

#define EVENTS_MAX 64

struct log {
    size_t n;
    struct {
        enum http_event event;
        uint64_t position; /* of the byte that was fed */
    } events[EVENTS_MAX];
};

static void note(struct log *log, enum http_event event, uint64_t position)
{
    if (event == HTTP_MORE)
        return;
    assert_true(log->n < EVENTS_MAX);
    log->events[log->n].event = event;
    log->events[log->n++].position = position;
}

/* What the kernel's programs do with a segment. */
static void feed(struct http_stream *s, const char *bytes, size_t n, struct log *log)
{
    size_t i = 0;

    while (s->state != HTTP_LOST &&
           (i < n || (s->state == HTTP_BODY && s->position == s->body_end))) {
        if (http_is_in_body(s)) {
            uint64_t taken = http_body_bytes(s, n - i);
            enum http_event event = http_skip(s, taken);

            i += taken;
            note(log, event, s->position);
        } else {
            uint64_t position = s->position;
            enum http_event event = http_step(s, (uint8_t)bytes[i++]);

            note(log, event, position);
            if (event == HTTP_INSERT)
                http_shift(s, 0);
        }
    }
}

static void assert_same(const struct log *a, const struct log *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_int_equal(a->events[i].event, b->events[i].event);
        assert_int_equal(a->events[i].position, b->events[i].position);
    }
}

/* Feeds a text whole, and cut at every byte, and byte by byte: the events must be the same. */
static struct http_stream run(bool is_response, uint64_t method, const char *text, struct log *log)
{
    const struct http_stream start = {.is_response = is_response, .method = method};
    struct http_stream whole = start, single = start;
    struct log bytes = {0};
    size_t n = strlen(text);

    *log = (struct log){0};
    feed(&whole, text, n, log);
    for (size_t cut = 0; cut <= n; cut++) {
        struct http_stream s = start;
        struct log pieces = {0};

        feed(&s, text, cut, &pieces);
        feed(&s, text + cut, n - cut, &pieces);
        assert_same(log, &pieces);
        assert_int_equal(s.state, whole.state);
    }
    for (size_t i = 0; i < n; i++)
        feed(&single, text + i, 1, &bytes);
    assert_same(log, &bytes);
    return whole;
}

static size_t count(const struct log *log, enum http_event event)
{
    size_t n = 0;

    for (size_t i = 0; i < log->n; i++)
        n += log->events[i].event == event;
    return n;
}

static void test_request(void **state)
{
    struct log log;
    struct http_stream s =
        run(false, 0, "GET /a/b?secret=1 HTTP/1.1\r\nHost: x\r\nCookie: y\r\n\r\n", &log);

    assert_int_equal(log.n, 2);
    assert_int_equal(log.events[0].event, HTTP_HEAD_END);
    assert_int_equal(log.events[1].event, HTTP_END);
    assert_true(s.method == HTTP_GET);
    assert_int_equal(s.path_length, 4);
    assert_memory_equal(s.path, "/a/b", 4);
}

static void test_requests_in_a_row(void **state)
{
    struct log log;

    run(false, 0,
        "POST / HTTP/1.1\r\ncontent-length:  10 \r\n\r\n0123456789"
        "\r\nPUT /x HTTP/1.0\nTransfer-Encoding: chunked\n\n"
        "5;name=x\r\nGET /\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"
        "DELETE /y HTTP/1.1\r\n\r\n",
        &log);
    assert_int_equal(count(&log, HTTP_HEAD_END), 3);
    assert_int_equal(count(&log, HTTP_END), 3);
    assert_int_equal(count(&log, HTTP_BAD), 0);
}

static void test_methods(void **state)
{
    static const char *const methods[] = {"GET",   "PUT",    "HEAD",    "POST",   "TRACE",
                                          "PATCH", "DELETE", "OPTIONS", "CONNECT"};
    char text[64];
    struct log log;

    for (size_t i = 0; i < ELEMENTS(methods); i++) {
        snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n\r\n", methods[i]);
        run(false, 0, text, &log);
        assert_int_equal(count(&log, HTTP_END), 1);
    }
}

static void test_response(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
    struct log log;

    run(true, HTTP_GET, text, &log);
    assert_int_equal(log.n, 3);
    assert_int_equal(log.events[0].event, HTTP_INSERT);
    assert_memory_equal(text + log.events[0].position, "Server", 6);
    assert_int_equal(log.events[1].event, HTTP_HEAD_END);
    assert_int_equal(log.events[2].event, HTTP_END);
    assert_int_equal(log.events[2].position, sizeof(text) - 1);
}

static void test_bodiless(void **state)
{
    static const char next[] = "\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 \r\n\r\n";
    char text[128];
    struct log log;

    snprintf(text, sizeof(text), "HTTP/1.1 304 Not Modified%s", next);
    run(true, HTTP_GET, text, &log);
    assert_int_equal(count(&log, HTTP_INSERT), 2);
    snprintf(text, sizeof(text), "HTTP/1.1 204 No Content%s", next);
    run(true, HTTP_GET, text, &log);
    assert_int_equal(count(&log, HTTP_INSERT), 2);
    snprintf(text, sizeof(text), "HTTP/1.1 200 OK%s", next);
    run(true, HTTP_HEAD_METHOD, text, &log);
    assert_int_equal(count(&log, HTTP_INSERT), 2);
}

static void test_interim(void **state)
{
    struct log log;

    run(true, HTTP_POST,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        &log);
    assert_int_equal(count(&log, HTTP_INSERT), 1);
    assert_int_equal(count(&log, HTTP_HEAD_END), 1);
    assert_int_equal(count(&log, HTTP_END), 1);
}

static void test_until_close(void **state)
{
    struct log log;
    struct http_stream s =
        run(true, HTTP_GET, "HTTP/1.0 200 OK\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", &log);

    assert_int_equal(count(&log, HTTP_INSERT), 1);
    assert_int_equal(s.state, HTTP_UNTIL_CLOSE);
}

/* What the application says of our field, in the head or behind the body. */
static void test_forged(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nX-ENERGY-score: 1\r\nX-Energy-Scores: 2\r\n"
                               "X-Energy-Scor: 3\r\nTransfer-Encoding: Chunked \r\n\r\n"
                               "1\r\na\r\n0\r\nx-energy-score: 4\r\n\r\n";
    struct log log;

    run(true, HTTP_GET, text, &log);
    assert_int_equal(count(&log, HTTP_FORGED), 3);
    for (size_t i = 0; i < log.n; i++)
        if (log.events[i].event == HTTP_FORGED)
            assert_int_equal(text[log.events[i].position] | 0x20, 'e');
    assert_int_equal(count(&log, HTTP_END), 1);
}

/* Where there was no room for the field, it may go before each of the next lines of the head. */
static void test_insert_later(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "0\r\nC: d\r\n\r\n";
    struct http_stream s = {.is_response = true, .method = HTTP_GET};
    size_t places[8], n = 0;

    for (size_t i = 0; i < strlen(text); i++)
        if (http_step(&s, (uint8_t)text[i]) == HTTP_INSERT)
            places[n++] = i;
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(text[places[i]], "AT\r"[i]);
}

static void test_left_alone(void **state)
{
    static const char *const requests[] = {
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02",
        "get / HTTP/1.1\r\n\r\n",
        "BREW / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / HTTP/1.1\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n 6\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunkedx\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        /* What is a line's end to some, and none to others. */
        "GET / HTTP/1.1\r\nA: b\rContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\rA: b\r\n\r\n",
        "GET / HTTP/1.1\r\r\n\r\n",
        "GET / HTTP/1.1\r\nCo\rntent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r5\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:\rchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nabc",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n",
    };
    static const char *const responses[] = {
        "hello",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
    };
    struct log log;

    for (size_t i = 0; i < ELEMENTS(requests); i++) {
        assert_int_equal(run(false, 0, requests[i], &log).state, HTTP_LOST);
        assert_int_equal(count(&log, HTTP_END), 0);
        assert_int_equal(count(&log, HTTP_BAD), 1);
    }
    for (size_t i = 0; i < ELEMENTS(responses); i++) {
        assert_int_equal(run(true, HTTP_GET, responses[i], &log).state, HTTP_LOST);
        assert_int_equal(count(&log, HTTP_INSERT), 0);
    }
    assert_int_equal(run(true, HTTP_CONNECT, "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", &log).state,
                     HTTP_LOST);
}

/* A sender whose bytes were not all taken sends them again. */
static void test_bytes_come_again(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    struct http_stream s = {.is_response = true, .method = HTTP_GET};
    struct log log = {0};
    uint64_t start = sizeof(text) - 1;

    feed(&s, text, start, &log);
    http_skip(&s, 60);
    assert_int_equal(http_seek(&s, start + 20), HTTP_MORE);
    assert_int_equal(http_body_bytes(&s, 1000), 80);
    assert_int_equal(http_skip(&s, 80), HTTP_END);
    assert_int_equal(http_seek(&s, start + 90), HTTP_MORE);
    assert_int_equal(http_body_bytes(&s, 1000), 10);
    assert_int_equal(http_skip(&s, 10), HTTP_MORE); /* it was told */
    assert_int_equal(s.state, HTTP_START);
    s.method = HTTP_GET;
    feed(&s, text, start, &log);
    assert_int_equal(count(&log, HTTP_INSERT), 2);
}

/* Bytes that went by another way. */
static void test_gap(void **state)
{
    static const char text[] = "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    struct http_stream s = {0}, other;
    struct log log = {0};

    feed(&s, text, sizeof(text) - 1, &log);
    other = s;
    assert_int_equal(http_seek(&s, s.body_end), HTTP_MORE);
    assert_int_equal(http_skip(&s, 0), HTTP_END);
    assert_int_equal(http_seek(&other, other.body_end + 1), HTTP_BAD);
    assert_int_equal(other.state, HTTP_LOST);
    assert_int_equal(http_seek(&s, s.position + 1), HTTP_BAD);
}

/* Eight bytes at once do what they do one by one. @return how many were taken */
static __u32 check_word(const struct http_stream *start, const char *text)
{
    struct http_stream fast = *start, slow = *start;
    uint64_t bytes;
    __u32 n;

    memcpy(&bytes, text, sizeof(bytes));
    n = http_word(&fast, bytes);
    for (__u32 i = 0; i < n; i++)
        assert_int_equal(http_step(&slow, (__u8)text[i]), HTTP_MORE);
    assert_memory_equal(&fast, &slow, sizeof(fast));
    return n;
}

static void test_rest(void **state)
{
    static const struct http_stream start = {.state = HTTP_REST};

    for (__u32 i = 0; i < 8; i++)
        for (unsigned c = 0; c < 256; c++) {
            char text[] = "A\x8a \x10\xff\x89:\x7f";
            __u32 n;

            text[i] = (char)c;
            n = check_word(&start, text);
            assert_int_equal(n, c < 16 ? i : 8);
            if (i == 7)
                continue;
            text[i + 1] = '\n';
            n = check_word(&start, text);
            assert_int_equal(n, c == '\r' ? i + 2 : c < 16 ? i : i + 1);
        }
}

static void test_words(void **state)
{
    const struct http_stream response = {.is_response = 1, .has_length = 1, .status = 404};
    const struct http_stream line = {.state = HTTP_LINE, .matched = 3};
    const struct http_stream version = {.state = HTTP_VERSION};
    const struct http_stream within = {.state = HTTP_VERSION, .matched = 1};
    const struct http_stream response_line = {
        .state = HTTP_LINE, .is_response = 1, .status = 200, .has_field = 1};
    const struct http_stream first_line = {.state = HTTP_LINE, .is_response = 1, .status = 200};

    assert_int_equal(check_word(&response, "HTTP/1.0"), 8);
    assert_int_equal(check_word(&response, "HTTP/1.1"), 8);
    assert_int_equal(check_word(&response, "HTTP/1.2"), 0);
    assert_int_equal(check_word(&response, "http/1.1"), 0);
    assert_int_equal(check_word(&version, "HTTP/1.1"), 8);
    assert_int_equal(check_word(&within, "HTTP/1.1"), 0);
    assert_int_equal(check_word(&line, "Content-"), 8);
    assert_int_equal(check_word(&line, "coNTeNT-"), 8);
    assert_int_equal(check_word(&line, "content\r"), 0);
    assert_int_equal(check_word(&line, "consent-"), 0);
    assert_int_equal(check_word(&first_line, "Content-"), 0); /* it has more to tell */
    assert_int_equal(check_word(&first_line, "Server: "), 0);
    assert_int_equal(check_word(&line, "Server: "), 8);
    assert_int_equal(check_word(&line, "A: b\r\nC:"), 6);
    assert_int_equal(check_word(&line, "Transfer"), 0);
    assert_int_equal(check_word(&line, "\r\nGET / "), 0);
    assert_int_equal(check_word(&line, " folded "), 0);
    assert_int_equal(check_word(&line, "X-Energy"), 8);
    assert_int_equal(check_word(&response_line, "X-Energy"), 0);
}

static void test_first_lines(void **state)
{
    const struct http_stream request = {.path_length = 3, .in_query = 1, .has_length = 1};
    const struct http_stream reason = {.state = HTTP_REASON};
    const struct http_stream status = {.state = HTTP_VERSION, .matched = 8, .is_response = 1};

    assert_int_equal(check_word(&request, "GET /abc"), 4);
    assert_int_equal(check_word(&request, "GETS /ab"), 0);
    assert_int_equal(check_word(&request, "\r\nGET / "), 0);
    assert_int_equal(check_word(&reason, "\r\nHost: "), 2);
    assert_int_equal(check_word(&reason, "\nHost: a"), 0);
    assert_int_equal(check_word(&status, " 200 OK\r"), 5);
    assert_int_equal(check_word(&status, " 999 OK\r"), 5);
    assert_int_equal(check_word(&status, " 099 OK\r"), 0);
    assert_int_equal(check_word(&status, " 20  OK\r"), 0);
    assert_int_equal(check_word(&status, " 200\r\n.."), 0);
}

static void test_target_words(void **state)
{
    const struct http_stream start = {.state = HTTP_TARGET, .path_length = 3};
    struct http_stream other = start;

    for (__u32 i = 0; i < 8; i++)
        for (unsigned c = 0; c < 256; c++) {
            char text[] = "/a\x80~!\xff@b";

            text[i] = (char)c;
            assert_int_equal(check_word(&start, text), c <= ' ' || c == '?' ? i : 8);
        }
    other.path_length = HTTP_PATH_MAX - 8;
    assert_int_equal(check_word(&other, "/abcdefg"), 8);
    other.path_length++;
    assert_int_equal(check_word(&other, "/abcdefg"), 0);
    other.in_query = 1;
    assert_int_equal(check_word(&other, "/abcdefg"), 8);
}

static void test_length_words(void **state)
{
    const struct http_stream name = {
        .state = HTTP_NAME, .name = HTTP_NAME_LENGTH, .matched = 8, .is_response = 1};
    const struct http_stream length = {.state = HTTP_LENGTH, .matched = 1, .length = 12};
    struct http_stream other = name;

    assert_int_equal(check_word(&name, "Length: "), 8);
    assert_int_equal(check_word(&name, "lENGTH: "), 8);
    assert_int_equal(check_word(&name, "Length:\t"), 0);
    assert_int_equal(check_word(&name, "Length\x1a "), 0);
    assert_int_equal(check_word(&name, "Location"), 0);
    other.in_trailer = 1;
    assert_int_equal(check_word(&other, "Length: "), 0);
    other = name;
    other.has_length = 1;
    assert_int_equal(check_word(&other, "Length: "), 0);
    other = name;
    other.name = HTTP_NAME_CODING;
    assert_int_equal(check_word(&other, "Length: "), 0);

    assert_int_equal(check_word(&length, "1\r\nDate:"), 3);
    assert_int_equal(check_word(&length, "123456\r\n"), 8);
    assert_int_equal(check_word(&length, "1234567\r"), 7);
    assert_int_equal(check_word(&length, "12345678"), 8);
    assert_int_equal(check_word(&length, "12 \r\nDat"), 2);
    assert_int_equal(check_word(&length, "\r\nDate: "), 0);
    other = length;
    other.length = 1 << 24;
    assert_int_equal(check_word(&other, "1\r\nDate:"), 0);
    other = length;
    other.matched = 2;
    assert_int_equal(check_word(&other, "1\r\nDate:"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_requests_in_a_row),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_response),
        cmocka_unit_test(test_bodiless),
        cmocka_unit_test(test_interim),
        cmocka_unit_test(test_until_close),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_insert_later),
        cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_bytes_come_again),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_first_lines),
        cmocka_unit_test(test_target_words),
        cmocka_unit_test(test_length_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
