/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "cli/share_losses.h"

static const struct share_host debian_12 = {9000000, 7002000, true};
static const struct share_host debian_13 = {11003000, 10000000, false};

/* The names, in a row. */
static const char *names(const struct share_host *host, bool memory_changes)
{
    static char text[256];
    const struct share_loss *losses[SHARE_LOSSES_MAX];
    size_t n = share_losses(host, memory_changes, losses);

    text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        assert_non_null(losses[i]->text);
        strcat(strcat(text, i > 0 ? " " : ""), losses[i]->name);
    }
    return text;
}

static void test_debian(void **state)
{
    assert_string_equal(names(&debian_12, true), "save snapshot migration ksm huge-pages");
    assert_string_equal(names(&debian_12, false), "save snapshot migration");
    assert_string_equal(names(&debian_13, true), "ksm huge-pages");
    assert_string_equal(names(&debian_13, false), "");
}

/* Each of the three must be able to hand over the device's state; what is unknown cannot. */
static void test_one_is_old(void **state)
{
    static const struct share_host hosts[] = {
        {9010000, 10000000, false},
        {11003000, 8001005, false},
        {11003000, 10000000, true},
        {0, 0, false},
    };
    static const struct share_host oldest = {10000000, 8002000, false};

    for (size_t i = 0; i < ELEMENTS(hosts); i++)
        assert_string_equal(names(&hosts[i], false), "save snapshot migration");
    assert_string_equal(names(&oldest, false), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_debian),
        cmocka_unit_test(test_one_is_old),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
