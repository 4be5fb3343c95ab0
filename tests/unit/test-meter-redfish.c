/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Services that are asked and do not answer. Answers are test-redfish.c's. */

#include "unit.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "meter/meter_redfish.h"
#include "util/clock.h"

/* @return a socket at a port of its own, which takes connections and says nothing */
static int listen_somewhere(unsigned *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static struct meter *start(sd_event *event, unsigned port, const char *credentials)
{
    struct redfish_options options = {.interval_ns = NSEC_PER_SEC};
    struct meter *meter = NULL;

    snprintf(options.url, sizeof(options.url), "https://127.0.0.1:%u", port);
    snprintf(options.credentials, sizeof(options.credentials), "%s", credentials);
    assert_int_equal(meter_redfish_new(&meter, &(struct meter_host){.event = event}, &options), 0);
    assert_non_null(meter);
    assert_int_equal(meter_start(meter, event), 0);
    return meter;
}

/* Asks once. */
static struct meter_status ask(unsigned port, const char *credentials)
{
    struct meter_status status;
    struct meter *meter;
    sd_event *event;

    assert_int_equal(sd_event_new(&event), 0);
    meter = start(event, port, credentials);
    while (meter->status.state == METER_WAITING)
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
    status = meter->status;
    meter_free(meter);
    sd_event_unref(event);
    return status;
}

static void test_refused(void **state)
{
    struct meter_status status;
    unsigned port;
    int fd = listen_somewhere(&port);

    close(fd);
    status = ask(port, "");
    assert_int_equal(status.state, METER_SILENT);
    assert_non_null(strstr(status.detail, "/redfish/v1/Chassis: "));
}

static void test_credentials(void **state)
{
    char path[256];
    unsigned port;
    int fd = listen_somewhere(&port);

    assert_int_equal(ask(port, "/nowhere/credentials").state, METER_UNAUTHORISED);
    fixture_write(*state, "user = monitor\npassword = secret\n", "credentials");
    snprintf(path, sizeof(path), "%s/credentials", (const char *)*state);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(ask(port, path).state, METER_UNAUTHORISED);
    close(fd);
}

/* A service that takes the connection and says nothing: the end of the meter does not wait for it.
 */
static void test_end_while_it_hangs(void **state)
{
    struct meter *meter;
    sd_event *event;
    unsigned port;
    int fd = listen_somewhere(&port);
    int connection;

    assert_int_equal(sd_event_new(&event), 0);
    meter = start(event, port, "");
    assert_true(sd_event_run(event, UINT64_MAX) > 0);
    connection = accept(fd, NULL, NULL);
    assert_true(connection >= 0);
    assert_int_equal(meter->status.state, METER_WAITING);
    meter_free(meter);
    sd_event_unref(event);
    close(connection);
    close(fd);
}

static void test_not_configured(void **state)
{
    struct meter *meter = NULL;

    assert_int_equal(
        meter_redfish_new(&meter, &(struct meter_host){0}, &(struct redfish_options){0}), 0);
    assert_null(meter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test_setup_teardown(test_credentials, fixture_setup, fixture_teardown),
        cmocka_unit_test(test_end_while_it_hangs),
        cmocka_unit_test(test_not_configured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
