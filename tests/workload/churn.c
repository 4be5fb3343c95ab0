/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Connections that come and go, well-behaved and not:
 *
 *     a number --(kinds by turns, four at a time)--> a server on the loopback --> counts in JSON
 *
 * Each is from another address of 127.0.0.0/8 than its neighbours, so that ports do not run out
 * while those of the last minute wait for their time.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "answer.h"
#include "util/cleanup.h"
#include "util/parse.h"

#define THREADS 4
#define SILENCE_MAX_S 20
/* Of a kind that stays, in each thread: the server has to hold it. */
#define HELD_MAX 16

#define GET "GET /cpu?iters=10 HTTP/1.1\r\nHost: x\r\n"
#define HALF_A_HEAD "GET /cpu?iters=10 HTTP/1.1\r\nHos"

/* What a kind does in each round, and at last. */
static const struct kind {
    const char *name;
    const char *bytes; /* that are sent */
    unsigned rounds;
    unsigned answers; /* that are waited for */
    enum { GO_ON, READ_ONCE, READ_TO_THE_END } then;
    enum { CLOSE, RESET, VANISH, STAY } end;
} kinds[] = {
    {"empty", "", 0, 0, GO_ON, CLOSE},
    {"empty, reset", "", 0, 0, GO_ON, RESET},
    {"one request", GET "\r\n", 1, 1, GO_ON, CLOSE},
    {"closed by the server", GET "Connection: close\r\n\r\n", 1, 1, READ_TO_THE_END, CLOSE},
    {"kept alive", GET "\r\n", 3, 1, GO_ON, RESET},
    {"pipelined", GET "\r\n" GET "\r\n", 2, 2, GO_ON, CLOSE},
    {"reset in a head", HALF_A_HEAD, 1, 0, GO_ON, RESET},
    {"reset before the answer", GET "\r\n", 1, 0, GO_ON, RESET},
    {"reset in a body", "POST /post?kb=9 HTTP/1.1\r\nContent-Length: 9216\r\n\r\nbody", 1, 0, GO_ON,
     RESET},
    {"reset in an answer", "GET /file?kb=4096 HTTP/1.1\r\nHost: x\r\n\r\n", 1, 0, READ_ONCE, RESET},
    {"TLS", "\x16\x03\x01\x02\x01\r\n\r\n", 1, 0, READ_TO_THE_END, CLOSE},
    {"upgraded", GET "Connection: Upgrade\r\nUpgrade: bytes\r\n\r\n", 2, 0, READ_ONCE, CLOSE},
    {"half-open in a head", HALF_A_HEAD, 1, 0, GO_ON, VANISH},
    {"half-open after an answer", GET "\r\n", 1, 1, GO_ON, VANISH},
    {"stalled in an answer", "GET /file?kb=16384 HTTP/1.1\r\nHost: x\r\n\r\n", 1, 0, READ_ONCE,
     STAY},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct client {
    pthread_t thread;
    in_port_t port;
    uint64_t first, connections; /* by number: every fourth from the first on */
    uint64_t answers, failed;
    uint64_t of_kind[KINDS];
};

static bool is_held(const struct kind *kind)
{
    return kind->end == VANISH || kind->end == STAY;
}

/* @return the socket, or -errno */
static int connect_server(const struct client *client, uint64_t number, bool is_slow)
{
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval silence = {.tv_sec = SILENCE_MAX_S};
    const int one = 1, small = 4096;
    const struct sockaddr_in from = {.sin_family = AF_INET,
                                     .sin_addr.s_addr =
                                         htonl(INADDR_LOOPBACK + (uint32_t)(number % 10000))},
                             to = {.sin_family = AF_INET,
                                   .sin_port = client->port,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (is_slow)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    if (bind(fd, (const struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static bool receive_answers(struct client *client, int fd, unsigned n)
{
    struct answer answer = {0};
    char bytes[4096];

    while (n > 0) {
        ssize_t length = recv(fd, bytes, sizeof(bytes), 0);

        if (length <= 0)
            return false;
        for (size_t at = 0, taken; at < (size_t)length; at += taken) {
            if (n == 0 || answer_take(&answer, bytes + at, (size_t)length - at, &taken) < 0)
                return false;
            if (answer.done) {
                answer = (struct answer){0};
                client->answers++;
                n--;
            }
        }
    }
    return true;
}

static bool talk(struct client *client, int fd, const struct kind *kind)
{
    size_t length = strlen(kind->bytes);
    char bytes[4096];

    for (unsigned i = 0; i < kind->rounds; i++)
        if (send(fd, kind->bytes, length, MSG_NOSIGNAL) != (ssize_t)length ||
            !receive_answers(client, fd, kind->answers))
            return false;
    if (kind->then == READ_ONCE)
        return recv(fd, bytes, sizeof(bytes), 0) > 0;
    while (kind->then == READ_TO_THE_END) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n <= 0)
            return n == 0;
    }
    return true;
}

static void end(int fd, const struct kind *kind)
{
    const struct linger no_linger = {.l_onoff = 1};
    const int one = 1;

    if (kind->end == STAY)
        return; /* until the program ends */
    if (kind->end == RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof(no_linger));
    /* As if the client's machine had gone: nothing is sent. */
    if (kind->end == VANISH && setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)) < 0) {
        perror("workload-churn: TCP_REPAIR");
        exit(EX_NOPERM);
    }
    close(fd);
}

static void *run_client(void *data)
{
    struct client *client = data;

    for (uint64_t i = client->first; i < client->connections; i += THREADS) {
        size_t k = i / THREADS % KINDS;
        int fd;

        if (is_held(&kinds[k]) && client->of_kind[k] == HELD_MAX)
            k = 0;
        client->of_kind[k]++;
        fd = connect_server(client, i, kinds[k].end == STAY);
        if (fd < 0 || !talk(client, fd, &kinds[k])) {
            fprintf(stderr, "workload-churn: %s: %s\n", kinds[k].name,
                    strerror(fd < 0 ? -fd : errno));
            client->failed++;
        }
        if (fd >= 0)
            end(fd, &kinds[k]);
    }
    return NULL;
}

static void print_counts(const struct client clients[THREADS])
{
    struct client all = {0};

    for (size_t i = 0; i < THREADS; i++) {
        all.answers += clients[i].answers;
        all.failed += clients[i].failed;
        for (size_t k = 0; k < KINDS; k++)
            all.of_kind[k] += clients[i].of_kind[k];
    }
    printf("{\"answers\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"kinds\": {", all.answers,
           all.failed);
    for (size_t k = 0; k < KINDS; k++)
        printf("%s\"%s\": %" PRIu64, k > 0 ? ", " : "", kinds[k].name, all.of_kind[k]);
    puts("}}");
}

int main(int argc, char **argv)
{
    struct client clients[THREADS] = {0};
    uint64_t port, connections;

    if (argc != 3 || parse_u64_between(argv[1], 1, UINT16_MAX, &port) < 0 ||
        parse_u64_between(argv[2], 1, UINT32_MAX, &connections) < 0) {
        fputs("Usage: workload-churn PORT CONNECTIONS\n", stderr);
        return EX_USAGE;
    }
    for (size_t i = 0; i < THREADS; i++) {
        clients[i].port = htons((in_port_t)port);
        clients[i].first = i;
        clients[i].connections = connections;
        if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
            return EX_OSERR;
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(clients[i].thread, NULL);
    print_counts(clients);
    return EXIT_SUCCESS;
}
