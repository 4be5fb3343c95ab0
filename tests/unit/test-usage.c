/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <string.h>

#include "usage/usage.h"

static void make(struct usage *usage)
{
    uuid_t uuids[3] = {{3}, {1}, {3}};

    *usage = (struct usage){.n_sockets = 2};
    assert_int_equal(usage_init_vms(usage, uuids, 3), 0);
    assert_int_equal(usage->n_vms, 2);
}

static void test_find(void **state)
{
    struct usage usage;

    make(&usage);
    assert_ptr_equal(usage_find_amount(&usage, (uuid_t){1}), &usage.vms[0].amount);
    assert_ptr_equal(usage_find_amount(&usage, (uuid_t){3}), &usage.vms[1].amount);
    assert_null(usage_find_amount(&usage, (uuid_t){2}));
    usage_deinit(&usage);
    assert_null(usage_find_amount(&usage, (uuid_t){2}));
}

static void test_charge(void **state)
{
    const uint64_t cpu_ns[PACKAGES_MAX] = {30, 500};
    struct usage usage;

    make(&usage);
    usage.host.sockets[0] = (struct usage_socket){.cpu_ns = 100, .corun_ns = 90};
    usage.host.sockets[1] = (struct usage_socket){.cpu_ns = 40, .corun_ns = 10};
    usage.vms[1].amount.sockets[0].cpu_ns = 7;
    usage_charge(&usage, (uuid_t){2}, cpu_ns);
    assert_int_equal(usage.host.sockets[0].cpu_ns, 100);
    usage_charge(&usage, (uuid_t){3}, cpu_ns);
    assert_int_equal(usage.host.sockets[0].cpu_ns, 70);
    assert_int_equal(usage.host.sockets[0].corun_ns, 70);
    assert_int_equal(usage.vms[1].amount.sockets[0].cpu_ns, 37);
    /* The two are measured apart: no more than there is. */
    assert_int_equal(usage.host.sockets[1].cpu_ns, 0);
    assert_int_equal(usage.host.sockets[1].corun_ns, 0);
    assert_int_equal(usage.vms[1].amount.sockets[1].cpu_ns, 40);
    assert_int_equal(usage.vms[0].amount.sockets[0].cpu_ns, 0);
    usage_deinit(&usage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_charge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
