/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>

#include "util/listen_address.h"

static void test_parse(void **state)
{
    static const struct {
        const char *listen;
        int r;
        const char *host;
        unsigned port;
    } cases[] = {
        {"127.0.0.1:9177", 0, "127.0.0.1", 9177},
        {"0.0.0.0:0", 0, "0.0.0.0", 0},
        {"[::1]:9177", 0, "::1", 9177},
        {"[::]:65535", 0, "::", 65535},
        {"[fe80::ffff:ffff:ffff:ffff]:1", 0, "fe80::ffff:ffff:ffff:ffff", 1},
        {"", -EINVAL, NULL, 0},
        {":", -EINVAL, NULL, 0},
        {":9177", -EINVAL, NULL, 0},
        {"9177", -EINVAL, NULL, 0},
        {"127.0.0.1", -EINVAL, NULL, 0},
        {"127.0.0.1:", -EINVAL, NULL, 0},
        {"127.0.0.1:65536", -EINVAL, NULL, 0},
        {"127.0.0.1:-1", -EINVAL, NULL, 0},
        {"127.0.0.1:9177 ", -EINVAL, NULL, 0},
        {" 127.0.0.1:9177", -EINVAL, NULL, 0},
        {"127.0.0.1:http", -EINVAL, NULL, 0},
        {"127.0.0.256:9177", -EINVAL, NULL, 0},
        {"127.1:9177", -EINVAL, NULL, 0},
        {"0x7f.1:9177", -EINVAL, NULL, 0},
        {"[fe80::1%lo]:9177", -EINVAL, NULL, 0},
        {"localhost:9177", -EINVAL, NULL, 0},
        {"::1:9177", -EINVAL, NULL, 0},
        {"[::1]9177", -EINVAL, NULL, 0},
        {"[::1:9177", -EINVAL, NULL, 0},
        {"[]:9177", -EINVAL, NULL, 0},
        {"[:9177", -EINVAL, NULL, 0},
        {"[127.0.0.1]:9177", -EINVAL, NULL, 0},
        {"[::1]x:9177", -EINVAL, NULL, 0},
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
