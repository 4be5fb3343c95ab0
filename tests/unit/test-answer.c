/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "work.h"

/* Hands an answer over in pieces of that size. @return 0 or the first error */
static int take(struct answer *answer, const char *text, size_t piece, size_t *ret_taken)
{
    size_t length = strlen(text), taken = 0;

    memset(answer, 0, sizeof(*answer));
    while (taken < length && !answer->done) {
        size_t n = length - taken < piece ? length - taken : piece, part = 0;
        int r = answer_take(answer, text + taken, n, &part);

        if (r < 0)
            return r;
        taken += part;
    }
    *ret_taken = taken;
    return 0;
}

static void test_framings(void **state)
{
    static const struct {
        const char *text, *body, *rest;
        unsigned status;
        bool close;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", "", 200, false},
        {"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhelloHTTP/1.1", "hello", "HTTP/1.1", 200,
         false},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nx", "", "x", 404, false},
        {"HTTP/1.1 204 \r\n\r\nx", "", "x", 204, false},
        {"HTTP/1.1 304\r\nContent-Length: 9\r\n\r\nx", "", "x", 304, false},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 1\r\n\r\nab", "a", "b",
         201, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
         "chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\nz",
         "hello!", "z", 200, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\nA\r\n0123456789\r\n"
         "000\r\nTrailer: x\r\n\r\n",
         "0123456789", "", 200, false},
        {"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 1\r\n\r\nab", "a",
         "b", 200, true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "a", "", 200, true},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].text); piece++) {
            struct answer answer;
            size_t taken;

            assert_int_equal(take(&answer, cases[i].text, piece, &taken), 0);
            assert_true(answer.done);
            assert_string_equal(cases[i].text + taken, cases[i].rest);
            assert_int_equal(answer.status, cases[i].status);
            assert_int_equal(answer.close, cases[i].close);
            assert_int_equal(answer.body_bytes, strlen(cases[i].body));
            if (*cases[i].body)
                assert_int_equal(answer.body_sum,
                                 work_sum(WORK_SUM_START, cases[i].body, strlen(cases[i].body)));
        }
    }
}

static void test_until_the_end(void **state)
{
    struct answer answer;
    size_t taken;

    assert_int_equal(take(&answer, "HTTP/1.1 200 OK\r\n\r\nall of this", 4, &taken), 0);
    assert_false(answer.done);
    assert_int_equal(answer_end(&answer), 0);
    assert_true(answer.done && answer.close);
    assert_int_equal(answer.body_bytes, 11);
    assert_int_equal(take(&answer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall", 4, &taken),
                     0);
    assert_int_equal(answer_end(&answer), -EBADMSG);
    assert_int_equal(take(&answer, "HTTP/1.1 20", 4, &taken), 0);
    assert_int_equal(answer_end(&answer), -EBADMSG);
}

static void test_head_request(void **state)
{
    struct answer answer = {.head_request = true};
    const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    size_t taken;

    assert_int_equal(answer_take(&answer, text, strlen(text), &taken), 0);
    assert_true(answer.done);
    assert_string_equal(text + taken, "hello");
}

static void test_energy(void **state)
{
    static const struct {
        const char *fields;
        bool has, wrong;
        uint64_t energy_uj;
    } cases[] = {
        {"X-Energy-Score: 1234\r\n", true, false, 1234},
        {"x-energy-score:0\r\n", true, false, 0},
        {"", false, false, 0},
        {"X-Energy-Score: 12.5\r\n", false, true, 0},
        {"X-Energy-Score:\r\n", false, true, 0},
        {"X-Energy-Score: -1\r\n", false, true, 0},
        {"X-Energy-Score: 1\r\nA: b\r\nX-Energy-Score: 2\r\n", true, true, 1},
        {"X-Energy-Score: 1\r\nX-Energy-Score: 1\r\n", true, true, 1},
        {"X-Energy-Scores: 1\r\n", false, false, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct answer answer;
        char text[256];
        size_t taken;

        snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%sContent-Length: 0\r\n\r\n",
                 cases[i].fields);
        assert_int_equal(take(&answer, text, 1000, &taken), 0);
        assert_int_equal(answer.has_energy, cases[i].has);
        assert_int_equal(answer.energy_wrong, cases[i].wrong);
        assert_int_equal(answer.energy_uj, cases[i].energy_uj);
    }
}

static void test_bad_answers(void **state)
{
    static const char *const texts[] = {
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 2000 X\r\n\r\n",
        "HTTP/1.1 2x0 X\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
    };
    static char endless[ANSWER_HEAD_MAX + 64] = "HTTP/1.1 200 OK\r\nX: ";
    struct answer answer;
    size_t taken;

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        if (take(&answer, texts[i], 1, &taken) != -EBADMSG)
            fail_msg("taken: %s", texts[i]);
    memset(endless + strlen(endless), 'x', ANSWER_HEAD_MAX);
    assert_int_equal(take(&answer, endless, 1000, &taken), -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_framings),     cmocka_unit_test(test_until_the_end),
        cmocka_unit_test(test_head_request), cmocka_unit_test(test_energy),
        cmocka_unit_test(test_bad_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
