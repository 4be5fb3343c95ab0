/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <string.h>

#include "util/listen_address.h"

static void test_path(void **state)
{
    char path[256] = "/";
    struct listen_address address = {.length = 42};

    assert_int_equal(listen_address_parse("/run/virtjoule/metrics.sock", &address), 0);
    assert_int_equal(address.any.sa_family, AF_UNIX);
    assert_string_equal(address.local.sun_path, "/run/virtjoule/metrics.sock");
    assert_int_equal(address.length, offsetof(struct sockaddr_un, sun_path) + 28);
    assert_int_equal(listen_address_port(&address), 0);
    for (size_t length = 1; length < sizeof(path) - 1; length++) {
        bool fits = length >= 2 && length < sizeof(address.local.sun_path);

        assert_int_equal(listen_address_parse(path, &address), fits ? 0 : -EINVAL);
        strcat(path, ":");
    }
    assert_int_equal(listen_address_parse("run/metrics.sock", &address), -EINVAL);
}

static void test_parse(void **state)
{
    static const struct {
        const char *listen;
        int r;
        const char *host;
        unsigned port;
    } cases[] = {
        {"127.0.0.1:19177", 0, "127.0.0.1", 19177},
        {"0.0.0.0:0", 0, "0.0.0.0", 0},
        {"[::1]:19177", 0, "::1", 19177},
        {"[::]:65535", 0, "::", 65535},
        {"[fe80::ffff:ffff:ffff:ffff]:1", 0, "fe80::ffff:ffff:ffff:ffff", 1},
        {"", -EINVAL, NULL, 0},
        {":", -EINVAL, NULL, 0},
        {":19177", -EINVAL, NULL, 0},
        {"19177", -EINVAL, NULL, 0},
        {"127.0.0.1", -EINVAL, NULL, 0},
        {"127.0.0.1:", -EINVAL, NULL, 0},
        {"127.0.0.1:65536", -EINVAL, NULL, 0},
        {"127.0.0.1:-1", -EINVAL, NULL, 0},
        {"127.0.0.1:19177 ", -EINVAL, NULL, 0},
        {" 127.0.0.1:19177", -EINVAL, NULL, 0},
        {"127.0.0.1:http", -EINVAL, NULL, 0},
        {"127.0.0.256:19177", -EINVAL, NULL, 0},
        {"127.1:19177", -EINVAL, NULL, 0},
        {"0x7f.1:19177", -EINVAL, NULL, 0},
        {"[fe80::1%lo]:19177", -EINVAL, NULL, 0},
        {"localhost:19177", -EINVAL, NULL, 0},
        {"::1:19177", -EINVAL, NULL, 0},
        {"[::1]19177", -EINVAL, NULL, 0},
        {"[::1:19177", -EINVAL, NULL, 0},
        {"[]:19177", -EINVAL, NULL, 0},
        {"[:19177", -EINVAL, NULL, 0},
        {"[127.0.0.1]:19177", -EINVAL, NULL, 0},
        {"[::1]x:19177", -EINVAL, NULL, 0},
        {"1111111111111111111111111111111111111111111111111111111:1", -EINVAL, NULL, 0},
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        struct listen_address address = {.length = 42};
        char host[INET6_ADDRSTRLEN];

        assert_int_equal(listen_address_parse(cases[i].listen, &address), cases[i].r);
        if (cases[i].r < 0) {
            assert_int_equal(address.length, 42);
            continue;
        }
        assert_int_equal(
            getnameinfo(&address.any, address.length, host, sizeof(host), NULL, 0, NI_NUMERICHOST),
            0);
        assert_string_equal(host, cases[i].host);
        assert_int_equal(listen_address_port(&address), cases[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
