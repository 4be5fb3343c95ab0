/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The workload server, served in each of its ways to the load generator and to bad clients. */

#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"
#include "server.h"
#include "util/clock.h"
#include "work.h"

enum mode { THREADS, EVENTS, POOL, MODES };

static pid_t servers[MODES];
static struct sockaddr_in addresses[MODES];

static void serve(enum mode mode, int listen_fd)
{
    int file = work_file_open();

    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mode != THREADS)
        fcntl(listen_fd, F_SETFL, O_NONBLOCK);
    if (mode == THREADS)
        serve_threads(listen_fd, file);
    else if (mode == EVENTS)
        serve_events(listen_fd, file);
    else
        serve_pool(listen_fd, file, 3);
    _exit(1);
}

static int start_servers(void **state)
{
    for (enum mode mode = 0; mode < MODES; mode++) {
        struct sockaddr_in *address = &addresses[mode];
        socklen_t length = sizeof(*address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        *address =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        if (fd < 0 || bind(fd, (struct sockaddr *)address, length) < 0 || listen(fd, 128) < 0 ||
            getsockname(fd, (struct sockaddr *)address, &length) < 0)
            return -1;
        servers[mode] = fork();
        if (servers[mode] < 0)
            return -1;
        if (servers[mode] == 0)
            serve(mode, fd);
        close(fd);
    }
    return 0;
}

static int stop_servers(void **state)
{
    int result = 0;

    for (enum mode mode = 0; mode < MODES; mode++) {
        int status;

        kill(servers[mode], SIGKILL);
        waitpid(servers[mode], &status, 0);
        /* One that ended before is one that crashed. */
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            result = -1;
    }
    return result;
}

static struct load_options options_for(enum mode mode)
{
    struct load_options options = {
        .address_length = sizeof(addresses[mode]),
        .connections = 4,
        .pipeline = 1,
        .keep_alive = true,
        .duration_ns = 600 * NSEC_PER_SEC, /* the requests are what ends it */
        .requests = 12,
    };

    memcpy(&options.address, &addresses[mode], sizeof(addresses[mode]));
    return options;
}

static void make_mix(struct mix *mix)
{
    static const char *const targets[] = {"/cpu?iters=1000", "/json?items=20",  "/compress?kb=8",
                                          "/file?kb=0",      "/file?kb=3000",   "/post?kb=100",
                                          "/post?kb=0",      "/json?items=9000"};

    *mix = (struct mix){0};
    for (size_t i = 0; i < ELEMENTS(targets); i++)
        assert_int_equal(mix_add(mix, targets[i]), 0);
}

/* All answers come, whole, in every way of serving, of connecting and of asking. */
static void test_load(void **state)
{
    static const struct {
        unsigned pipeline;
        bool keep_alive;
        uint64_t connections;
    } ways[] = {{1, true, 4}, {5, true, 4}, {1, false, 48}, {3, false, 16}};
    struct summary *summary = calloc(1, sizeof(*summary));
    struct mix mix;

    make_mix(&mix);
    for (enum mode mode = 0; mode < MODES; mode++) {
        for (size_t i = 0; i < ELEMENTS(ways); i++) {
            struct load_options options = options_for(mode);
            uint64_t duration_ns, answers = 0;

            options.pipeline = ways[i].pipeline;
            options.keep_alive = ways[i].keep_alive;
            memset(summary, 0, sizeof(*summary));
            assert_int_equal(load_run(&options, &mix, summary, &duration_ns), 0);
            assert_int_equal(summary->errors, 0);
            assert_int_equal(summary->connections, ways[i].connections);
            for (size_t row = 0; row < mix.n; row++) {
                answers += summary->rows[row].answers;
                assert_int_equal(summary->rows[row].not_2xx, 0);
                assert_int_equal(summary->rows[row].energy_missing, summary->rows[row].answers);
            }
            assert_int_equal(answers, 48);
            assert_int_equal(summary->rows[4].bytes, summary->rows[4].answers * 3000 * 1024);
            assert_int_equal(summary->rows[3].bytes, 0);
        }
    }
    free(summary);
}

static int connect_to(enum mode mode)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval silence = {.tv_sec = 120};

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
    assert_int_equal(connect(fd, (struct sockaddr *)&addresses[mode], sizeof(addresses[mode])), 0);
    return fd;
}

/* Takes one answer, in pieces of that size. @return its status, 0 where there is none */
static unsigned take_answer(int fd, size_t piece, struct answer *answer)
{
    char buffer[4096];

    memset(answer, 0, sizeof(*answer));
    while (!answer->done) {
        ssize_t n = recv(fd, buffer, piece, 0);
        size_t taken;

        if (n <= 0)
            return 0;
        assert_int_equal(answer_take(answer, buffer, (size_t)n, &taken), 0);
        assert_int_equal(taken, n);
    }
    return answer->status;
}

/* A request that comes byte by byte, and an answer that is read so. */
static void test_byte_by_byte(void **state)
{
    static const char request[] = "POST /post?kb=1 HTTP/1.1\r\nContent-Length: 7\r\n\r\nabcdefg";

    for (enum mode mode = 0; mode < MODES; mode++) {
        int fd = connect_to(mode);
        struct answer answer;

        for (size_t i = 0; i < strlen(request); i++)
            assert_int_equal(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
        assert_int_equal(take_answer(fd, 1, &answer), 200);
        assert_int_equal(answer.body_bytes, 19); /* "7 <16 digits>\n" */
        close(fd);
    }
}

/* Readers that do not read hold nobody else up. */
static void test_slow_reader(void **state)
{
    static const char request[] = "GET /file?kb=65536 HTTP/1.1\r\n\r\n";
    static const char other[] = "GET /cpu?iters=1 HTTP/1.1\r\n\r\n";

    for (enum mode mode = 0; mode < MODES; mode++) {
        struct answer answer;
        int slow = connect_to(mode), fast;

        assert_int_equal(send(slow, request, strlen(request), 0), strlen(request));
        for (int i = 0; i < 5; i++) {
            fast = connect_to(mode);
            assert_int_equal(send(fast, other, strlen(other), 0), strlen(other));
            assert_int_equal(take_answer(fast, 4096, &answer), 200);
            close(fast);
        }
        assert_int_equal(take_answer(slow, 4096, &answer), 200);
        assert_int_equal(answer.body_bytes, 65536 * 1024);
        close(slow);
    }
}

static void test_bad_requests(void **state)
{
    static const struct {
        const char *text;
        unsigned status;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 404},
        {"GET /cpu?iters=x HTTP/1.1\r\n\r\n", 400},
        {"GET /post?kb=1 HTTP/1.1\r\n\r\n", 400},
        {"POST /cpu?iters=1 HTTP/1.1\r\n\r\n", 400},
        {"POST /post?kb=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET /cpu?iters=1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 400},
        {"GET /cpu?iters=1\r\n\r\n", 400},
        {"\r\n\r\n", 400},
    };
    static char endless[70000];

    memset(endless, 'x', sizeof(endless));
    for (enum mode mode = 0; mode < MODES; mode++) {
        struct answer answer;
        int fd;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
            fd = connect_to(mode);
            send(fd, cases[i].text, strlen(cases[i].text), MSG_NOSIGNAL);
            assert_int_equal(take_answer(fd, 4096, &answer), cases[i].status);
            assert_true(answer.close);
            close(fd);
        }
        fd = connect_to(mode);
        send(fd, endless, sizeof(endless), MSG_NOSIGNAL);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_bad_requests),
    };

    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
