/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"

#define RECEIVE_SIZE 65536
#define SILENCE_MAX_S 10
/* After a connection that failed. */
#define PAUSE_NS (10 * NSEC_PER_MSEC)

struct client {
    const struct load_options *options;
    const struct mix *mix;
    uint64_t end_ns;
    uint64_t random;
    uint64_t asked;
    struct summary *summary; /* of its own */
    pthread_t thread;
    int fd;
    size_t n_received, n_taken; /* in received */
    struct answer answer;
    char received[RECEIVE_SIZE];
};

/* xorshift64 (Marsaglia 2003) */
static uint64_t next_random(struct client *client)
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return client->random;
}

static bool send_all(int fd, const char *bytes, size_t length, int flags)
{
    while (length > 0) {
        ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL | flags);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

static bool send_request(struct client *client, const struct mix_entry *entry, bool last)
{
    static const char body[4096] = "energy";
    char head[MIX_TARGET_MAX + 256];
    size_t n =
        (size_t)snprintf(head, sizeof(head),
                         "%s %s HTTP/1.1\r\nHost: workload\r\nUser-Agent: "
                         "workload-load\r\n%s",
                         entry->method, entry->target,
                         last && !client->options->keep_alive ? "Connection: close\r\n" : "");

    if (entry->body_bytes > 0)
        n += (size_t)snprintf(head + n, sizeof(head) - n, "Content-Length: %" PRIu64 "\r\n",
                              entry->body_bytes);
    n += (size_t)snprintf(head + n, sizeof(head) - n, "\r\n");
    if (!send_all(client->fd, head, n, entry->body_bytes > 0 ? MSG_MORE : 0))
        return false;
    for (uint64_t left = entry->body_bytes; left > 0;) {
        size_t part = left < sizeof(body) ? (size_t)left : sizeof(body);

        if (!send_all(client->fd, body, part, 0))
            return false;
        left -= part;
    }
    return true;
}

static bool receive_more(struct client *client)
{
    ssize_t n;

    do
        n = recv(client->fd, client->received, sizeof(client->received), 0);
    while (n < 0 && errno == EINTR);
    client->n_taken = 0;
    client->n_received = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool receive_answer(struct client *client, const struct mix_entry *entry)
{
    struct answer *answer = &client->answer;

    *answer = (struct answer){.head_request = strcmp(entry->method, "HEAD") == 0};
    while (!answer->done) {
        size_t taken;

        if (client->n_taken == client->n_received) {
            if (!receive_more(client))
                return answer_end(answer) == 0;
        }
        if (answer_take(answer, client->received + client->n_taken,
                        client->n_received - client->n_taken, &taken) < 0)
            return false;
        client->n_taken += taken;
    }
    return true;
}

static bool is_over(const struct client *client)
{
    return now_ns() >= client->end_ns ||
           (client->options->requests > 0 && client->asked == client->options->requests);
}

/* A batch of requests and their answers. @return may the connection go on? */
static bool exchange(struct client *client)
{
    size_t entries[256];
    uint64_t sent_ns[256];
    unsigned n = 0;

    while (n < client->options->pipeline && !is_over(client)) {
        bool last =
            n + 1 == client->options->pipeline || client->asked + 1 == client->options->requests;

        entries[n] = mix_choose(client->mix, next_random(client));
        sent_ns[n] = now_ns();
        client->asked++;
        if (!send_request(client, &client->mix->entries[entries[n]], last)) {
            client->summary->errors++;
            return false;
        }
        n++;
    }
    for (unsigned i = 0; i < n; i++) {
        if (!receive_answer(client, &client->mix->entries[entries[i]])) {
            client->summary->errors++;
            return false;
        }
        summary_add(client->summary, entries[i], &client->answer,
                    (now_ns() - sent_ns[i]) / NSEC_PER_USEC);
        if (client->answer.close && i + 1 < n) {
            client->summary->errors++;
            return false;
        }
    }
    /* Bytes that nobody asked for. */
    if (client->n_taken < client->n_received) {
        client->summary->errors++;
        return false;
    }
    return client->options->keep_alive && !client->answer.close;
}

static bool connect_server(struct client *client)
{
    const struct load_options *options = client->options;
    struct timeval silence = {.tv_sec = SILENCE_MAX_S};
    int one = 1;

    client->n_taken = client->n_received = 0;
    client->summary->connections++;
    client->fd = socket(options->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        return false;
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return connect(client->fd, (const struct sockaddr *)&options->address,
                   options->address_length) == 0;
}

static void *run_client(void *data)
{
    struct client *client = data;

    while (!is_over(client)) {
        if (connect_server(client)) {
            while (!is_over(client) && exchange(client))
                ;
        } else {
            struct timespec pause = {.tv_nsec = PAUSE_NS};

            client->summary->errors++;
            nanosleep(&pause, NULL);
        }
        if (client->fd >= 0)
            close(client->fd);
    }
    return NULL;
}

static struct client *start_client(const struct load_options *options, const struct mix *mix,
                                   uint64_t end_ns, unsigned number)
{
    struct client *client = calloc(1, sizeof(*client));

    if (!client)
        return NULL;
    client->options = options;
    client->mix = mix;
    client->end_ns = end_ns;
    /* Never 0; spread, so that neighbours do not begin alike. */
    client->random = (options->seed + number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    client->summary = calloc(1, sizeof(*client->summary));
    if (client->summary && pthread_create(&client->thread, NULL, run_client, client) == 0)
        return client;
    free(client->summary);
    free(client);
    return NULL;
}

int load_run(const struct load_options *options, const struct mix *mix, struct summary *summary,
             uint64_t *ret_duration_ns)
{
    struct client **clients = calloc(options->connections, sizeof(*clients));
    uint64_t start_ns = now_ns();
    int r = clients ? 0 : -ENOMEM;

    for (unsigned i = 0; clients && i < options->connections; i++) {
        clients[i] = start_client(options, mix, start_ns + options->duration_ns, i);
        if (!clients[i])
            r = -ENOMEM;
    }
    for (unsigned i = 0; clients && i < options->connections; i++) {
        if (!clients[i])
            continue;
        pthread_join(clients[i]->thread, NULL);
        summary_merge(summary, clients[i]->summary);
        free(clients[i]->summary);
        free(clients[i]);
    }
    free(clients);
    *ret_duration_ns = now_ns() - start_ns;
    return r;
}
