/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The exporter really served, by good clients and bad ones. */

#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/snapshot_fixture.h"
#include "publish/exporter.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/unix_socket.h"

#define REPLY_MAX ((size_t)1 << 20)

static struct snapshot_board *board;
static struct exporter *exporter;

static void post_one_vm(void)
{
    struct snapshot_vm vm;
    struct snapshot *snapshot;

    fixture_vm(&vm, 1, 1, "a \"quoted\\\" \xff\nname");
    snapshot = fixture_snapshot(&vm, 1);
    snapshot->n_zones = 1;
    strcpy(snapshot->zones[0].zone.name, "package-0");
    snapshot->zones[0].readable = true;
    snapshot_board_post(board, snapshot);
}

static int start(void **state)
{
    if (snapshot_board_new(&board) < 0)
        return -1;
    post_one_vm();
    return exporter_new(&exporter, "127.0.0.1:0", "1.2.3", board);
}

static int stop(void **state)
{
    exporter = exporter_free(exporter);
    board = snapshot_board_free(board);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)exporter_port(exporter)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    /* The server may have hung up on a bad client already. */
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        assert_true(errno == EPIPE || errno == ECONNRESET);
}

/* What no answer takes, however busy the machine is. */
#define SILENCE_MS 60000

/* All that comes until the server closes, or -1 when nothing comes. */
static ssize_t hear(int fd, char *reply)
{
    size_t length = 0;

    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (poll(&poll_fd, 1, SILENCE_MS) <= 0)
            return -1;
        n = recv(fd, reply + length, REPLY_MAX - 1 - length, 0);
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    reply[length] = '\0';
    return (ssize_t)length;
}

static char *ask(const char *request)
{
    _cleanup_close_ int fd = dial();
    char *reply = malloc(REPLY_MAX);

    assert_non_null(reply);
    say(fd, request);
    assert_true(hear(fd, reply) >= 0);
    return reply;
}

#define CLOSE "Host: x\r\nConnection: close\r\n\r\n"

static void assert_serves(void)
{
    _cleanup_free_ char *reply = ask("GET /metrics HTTP/1.1\r\n" CLOSE);

    assert_ptr_equal(strstr(reply, "HTTP/1.1 200 "), reply);
    assert_non_null(strstr(reply, "\nvirtjoule_source_energy_joules_total{"));
}

static void test_metrics(void **state)
{
    _cleanup_free_ char *reply = ask("GET /metrics HTTP/1.1\r\n" CLOSE);

    assert_ptr_equal(strstr(reply, "HTTP/1.1 200 "), reply);
    assert_non_null(
        strstr(reply, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(reply, "\r\n\r\n# HELP virtjoule_build_info"));
    assert_string_equal(reply + strlen(reply) - strlen("_processes 0\n"), "_processes 0\n");
}

static void test_query_is_ignored(void **state)
{
    _cleanup_free_ char *reply = ask("GET /metrics?name[]=x HTTP/1.1\r\n" CLOSE);

    assert_ptr_equal(strstr(reply, "HTTP/1.1 200 "), reply);
}

static void test_head(void **state)
{
    _cleanup_free_ char *reply = ask("HEAD /metrics HTTP/1.1\r\n" CLOSE);

    assert_ptr_equal(strstr(reply, "HTTP/1.1 200 "), reply);
    assert_non_null(strstr(reply, "\r\nContent-Length: "));
    assert_string_equal(strstr(reply, "\r\n\r\n"), "\r\n\r\n");
}

static void test_others(void **state)
{
    static const struct {
        const char *request, *status, *holds;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" CLOSE, "HTTP/1.1 200 ", "/metrics"},
        {"GET /nothing HTTP/1.1\r\n" CLOSE, "HTTP/1.1 404 ", "/metrics"},
        {"GET /metrics/ HTTP/1.1\r\n" CLOSE, "HTTP/1.1 404 ", ""},
        {"GET /../../etc/passwd HTTP/1.1\r\n" CLOSE, "HTTP/1.1 404 ", ""},
        {"PUT /metrics HTTP/1.1\r\nContent-Length: 0\r\n" CLOSE, "HTTP/1.1 405 ",
         "\r\nAllow: GET, HEAD\r\n"},
        {"POST / HTTP/1.1\r\nContent-Length: 5\r\n" CLOSE "hello", "HTTP/1.1 405 ", ""},
        {"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n" CLOSE, "HTTP/1.1 405 ", ""},
        {"BREW /metrics HTTP/1.1\r\n" CLOSE, "HTTP/1.1 405 ", ""},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        _cleanup_free_ char *reply = ask(cases[i].request);

        assert_ptr_equal(strstr(reply, cases[i].status), reply);
        assert_non_null(strstr(reply, cases[i].holds));
    }
}

/* Prometheus keeps its connection. */
static void test_keep_alive(void **state)
{
    _cleanup_free_ char *reply = malloc(REPLY_MAX);
    _cleanup_close_ int fd = dial();
    unsigned answers = 0;

    say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(50000);
    say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(50000);
    say(fd, "GET / HTTP/1.1\r\n" CLOSE);
    assert_true(hear(fd, reply) > 0);
    for (const char *p = reply; (p = strstr(p, "HTTP/1.1 200 ")); p++)
        answers++;
    assert_int_equal(answers, 3);
}

static void test_garbage(void **state)
{
    static const char *const requests[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /metrics\r\n\r\n",
        "GET /metrics HTTP/9.9\r\n\r\n",
        "GET %00%ff/../metrics HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /metrics HTTP/1.1\r\n: \r\n\x80\xff\r\n\r\n",
    };
    unsigned seed = 7;

    for (size_t i = 0; i < ELEMENTS(requests); i++) {
        _cleanup_close_ int fd = dial();

        say(fd, requests[i]);
    }
    for (unsigned i = 0; i < 300; i++) {
        _cleanup_close_ int fd = dial();
        char bytes[512];

        for (size_t j = 0; j < sizeof(bytes); j++) {
            seed = seed * 1103515245 + 12345;
            bytes[j] = (char)(seed >> 16);
        }
        bytes[sizeof(bytes) - 1] = '\0';
        say(fd, bytes);
    }
    assert_serves();
}

static void test_huge_header(void **state)
{
    _cleanup_free_ char *reply = malloc(REPLY_MAX);
    _cleanup_close_ int fd = dial();
    char line[1024];

    memset(line, 'a', sizeof(line) - 1);
    memcpy(line, "X: ", 3);
    memcpy(line + sizeof(line) - 3, "\r\n", 3);
    say(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n");
    for (unsigned i = 0; i < 4096; i++)
        say(fd, line);
    hear(fd, reply);
    assert_null(strstr(reply, "HTTP/1.1 200 "));
    assert_serves();
}

static bool is_open(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* More slow clients than connections are served; a client that asks gets its answer without
 * waiting for the slow ones' silence to end: the youngest of them are still connected then. */
#define YOUNGEST 20

static void test_slow_clients(void **state)
{
    int slow[200];

    for (size_t i = 0; i < ELEMENTS(slow); i++) {
        slow[i] = dial();
        say(slow[i], "GET /metrics HTTP/1.1\r\nX: ");
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_serves();
        for (size_t j = ELEMENTS(slow) - YOUNGEST; j < ELEMENTS(slow); j++)
            assert_true(is_open(slow[j]));
        for (size_t j = 0; j < ELEMENTS(slow); j++)
            say(slow[j], "x");
    }
    for (size_t i = 0; i < ELEMENTS(slow); i++)
        close(slow[i]);
}

/* A client that asks and never reads. */
static void test_deaf_clients(void **state)
{
    int deaf[40];

    for (size_t i = 0; i < ELEMENTS(deaf); i++) {
        deaf[i] = dial();
        for (unsigned j = 0; j < 20; j++)
            say(deaf[i], "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_serves();
    for (size_t i = 0; i < ELEMENTS(deaf); i++)
        close(deaf[i]);
    assert_serves();
}

static void post_many_vms(unsigned n)
{
    struct snapshot_vm *vms = calloc(n, sizeof(*vms));
    struct snapshot *snapshot;
    char name[32];

    assert_non_null(vms);
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "vm-%u", i);
        fixture_vm(&vms[i], i + 1, i + 1, name);
    }
    snapshot = fixture_snapshot(vms, n);
    snapshot->n_zones = 1;
    strcpy(snapshot->zones[0].zone.name, "package-0");
    free(vms);
    snapshot_board_post(board, snapshot);
}

/* How much comes until the server closes. */
static size_t drain(int fd)
{
    static char part[65536];
    size_t length = 0;
    ssize_t n;

    while ((n = recv(fd, part, sizeof(part), 0)) > 0)
        length += (size_t)n;
    return length;
}

/* Clients that ask for a long text and read nothing of it, each after the former's text is too old
 * for the next. Two texts are kept for them, and a third is made; who is cut off gets no more than
 * what the kernel had taken. */
#define TEXTS_AT_ONCE 3

static void test_deaf_clients_memory(void **state)
{
    const struct snapshot *snapshot;
    size_t length = 0, n_whole = 0;
    char *text = NULL;
    int deaf[8];
    FILE *stream = open_memstream(&text, &length);

    post_many_vms(10000);
    snapshot = snapshot_board_acquire(board);
    assert_int_equal(exporter_render(stream, snapshot, "1.2.3"), 0);
    snapshot_board_release(board, snapshot);
    fclose(stream);
    free(text);
    for (size_t i = 0; i < ELEMENTS(deaf); i++) {
        char byte;

        deaf[i] = dial();
        say(deaf[i], "GET /metrics HTTP/1.1\r\n" CLOSE);
        assert_int_equal(recv(deaf[i], &byte, 1, 0), 1);
        usleep(1010000);
    }
    for (size_t i = 0; i < ELEMENTS(deaf); i++) {
        n_whole += drain(deaf[i]) >= length;
        close(deaf[i]);
    }
    post_one_vm();
    print_message("%zu of %zu texts were kept\n", n_whole, ELEMENTS(deaf));
    assert_true(n_whole <= TEXTS_AT_ONCE);
}

static atomic_bool posting;

static void *post(void *data)
{
    struct snapshot_vm vm;

    fixture_vm(&vm, 1, 1, "vm");
    while (atomic_load(&posting)) {
        struct snapshot *snapshot;

        vm.dynamic_uj[0] += 1234567;
        snapshot = fixture_snapshot(&vm, 1);
        snapshot->n_zones = 1;
        strcpy(snapshot->zones[0].zone.name, "package-0");
        snapshot->zones[0].readable = true;
        snapshot->zones[0].measured_uj = vm.dynamic_uj[0];
        snapshot_board_post(board, snapshot);
        usleep(100);
    }
    return NULL;
}

/* One answer is of one snapshot, however fast they follow each other. */
static void test_one_snapshot(void **state)
{
    pthread_t thread;

    atomic_store(&posting, true);
    assert_int_equal(pthread_create(&thread, NULL, post, NULL), 0);
    for (unsigned i = 0; i < 200; i++) {
        _cleanup_free_ char *reply = ask("GET /metrics HTTP/1.1\r\n" CLOSE);
        const char *source = strstr(reply, "\nvirtjoule_source_energy_joules_total{");
        const char *vm = strstr(reply, "\nvirtjoule_vm_energy_joules_total{");
        size_t length;

        assert_non_null(source);
        assert_non_null(vm);
        source = strchr(source, '}');
        vm = strchr(vm, '}');
        length = strcspn(source, "\n");
        assert_memory_equal(source, vm, length + 1);
    }
    atomic_store(&posting, false);
    pthread_join(thread, NULL);
}

static void test_before_the_first(void **state)
{
    struct snapshot_board *empty;
    struct exporter *other, *served = exporter;

    assert_int_equal(snapshot_board_new(&empty), 0);
    assert_int_equal(exporter_new(&other, "127.0.0.1:0", "1.2.3", empty), 0);
    exporter = other;
    {
        _cleanup_free_ char *reply = ask("GET /metrics HTTP/1.1\r\n" CLOSE);

        assert_ptr_equal(strstr(reply, "HTTP/1.1 200 "), reply);
        assert_non_null(strstr(reply, "virtjoule_build_info"));
    }
    exporter = served;
    assert_null(exporter_free(other));
    snapshot_board_free(empty);
}

static void test_address_errors(void **state)
{
    struct exporter *other = NULL;

    assert_int_equal(exporter_new(&other, "nonsense", "1", board), -EINVAL);
    assert_int_equal(exporter_new(&other, "", "1", board), -EINVAL);
    assert_null(other);
    assert_null(exporter_free(NULL));
    exporter_keep(NULL);
}

/* Its reasons are logged, and an exporter that serves nothing costs nothing. */
static void test_address_not_to_be_had(void **state)
{
    static const char *const addresses[] = {"192.0.2.1:0", "/dev/null", "/nowhere/metrics.sock"};

    log_set_max_level(LOG_EMERG);
    for (size_t i = 0; i < ELEMENTS(addresses); i++) {
        struct exporter *other;

        assert_int_equal(exporter_new(&other, addresses[i], "1", board), 0);
        assert_int_equal(exporter_port(other), 0);
        exporter_keep(other);
        assert_null(exporter_free(other));
    }
    log_set_max_level(LOG_INFO);
    assert_int_equal(access("/dev/null", W_OK), 0);
    assert_serves();
}

/* Once another program has left the address, it is had at the next attempt. */
static void test_address_taken(void **state)
{
    struct exporter *other, *served = exporter;
    char listen[64];

    snprintf(listen, sizeof(listen), "127.0.0.1:%u", exporter_port(exporter));
    log_set_max_level(LOG_EMERG);
    assert_int_equal(exporter_new(&other, listen, "1.2.3", board), 0);
    log_set_max_level(LOG_INFO);
    assert_int_equal(exporter_port(other), 0);
    assert_serves();
    assert_null(exporter_free(served));
    exporter = other;
    while (exporter_port(exporter) == 0) {
        exporter_keep(exporter);
        usleep(10000);
    }
    assert_serves();
}

static int dial_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void assert_serves_at(const char *path)
{
    _cleanup_close_ int fd = dial_path(path);
    _cleanup_free_ char *reply = malloc(REPLY_MAX);

    say(fd, "GET /metrics HTTP/1.1\r\n" CLOSE);
    assert_true(hear(fd, reply) > 0);
    assert_non_null(strstr(reply, "\nvirtjoule_source_energy_joules_total{"));
}

/* For this user and group; a socket left behind is replaced, one that is served is not. */
static void test_unix_socket(void **state)
{
    char directory[] = "/tmp/virtjoule-exporter-XXXXXX", path[64];
    struct exporter *first, *second;
    struct stat st;

    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/metrics.sock", directory);
    assert_int_equal(exporter_new(&first, path, "1.2.3", board), 0);
    assert_serves_at(path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0660);
    assert_int_equal(st.st_gid, getegid());
    log_set_max_level(LOG_EMERG);
    assert_int_equal(exporter_new(&second, path, "1.2.3", board), 0);
    log_set_max_level(LOG_INFO);
    assert_null(exporter_free(second));
    assert_serves_at(path);
    assert_null(exporter_free(first));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(rmdir(directory), 0);
}

/* The queue of a program that accepts nothing is full: no second one waits for it. */
static void test_unix_socket_taken(void **state)
{
    char directory[] = "/tmp/virtjoule-exporter-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int first, client, left;

    assert_non_null(mkdtemp(directory));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", directory);
    first = unix_socket_listen(&address, (gid_t)-1, 0);
    assert_true(first >= 0);
    client = dial_path(address.sun_path);
    assert_int_equal(unix_socket_listen(&address, (gid_t)-1, 0), -EADDRINUSE);
    close(client);
    close(first);
    left = unix_socket_listen(&address, (gid_t)-1, 0);
    assert_true(left >= 0);
    close(left);
    unlink(address.sun_path);
    assert_int_equal(rmdir(directory), 0);
}

/* Prometheus' own checker accepts the text. */
static void test_promtool(void **state)
{
    _cleanup_free_ char *reply = ask("GET /metrics HTTP/1.1\r\n" CLOSE);
    const char *body = strstr(reply, "\r\n\r\n");
    FILE *promtool;

    assert_non_null(body);
    if (access("/usr/bin/promtool", X_OK) < 0) {
        print_message("no promtool\n");
        skip();
    }
    promtool = popen("/usr/bin/promtool check metrics 2>&1", "w");
    assert_non_null(promtool);
    fputs(body + 4, promtool);
    assert_int_equal(pclose(promtool), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_query_is_ignored),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_huge_header),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_deaf_clients),
        cmocka_unit_test(test_deaf_clients_memory),
        cmocka_unit_test(test_promtool),
        cmocka_unit_test(test_one_snapshot),
        cmocka_unit_test(test_before_the_first),
        cmocka_unit_test(test_address_errors),
        cmocka_unit_test(test_address_not_to_be_had),
        cmocka_unit_test(test_address_taken),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_unix_socket_taken),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
