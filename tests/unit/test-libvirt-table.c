/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "libvirt/libvirt_table.h"

static struct libvirt_domain domain(unsigned char n, const char *name, unsigned start_number)
{
    struct libvirt_domain domain = {
        .uuid = {n}, .vcpus = 1, .start_number = start_number, .arrival = {.present = n % 2}};

    strcpy(domain.name, name);
    return domain;
}

static bool has_changed(const struct libvirt_table *table)
{
    struct pollfd descriptor = {.fd = table->event_fd, .events = POLLIN};

    return poll(&descriptor, 1, 0) == 1;
}

/* Takes note of changes, too. */
static void assert_holds(struct libvirt_table *table, const char *names)
{
    struct libvirt_domain *domains;
    char joined[256] = "";
    size_t n;

    assert_int_equal(libvirt_table_copy(table, &domains, &n), 0);
    for (size_t i = 0; i < n; i++)
        strcat(joined, domains[i].name);
    free(domains);
    assert_string_equal(joined, names);
    assert_false(has_changed(table));
}

static int setup(void **state)
{
    static struct libvirt_table table;

    *state = &table;
    return libvirt_table_init(&table);
}

static int teardown(void **state)
{
    libvirt_table_deinit(*state);
    return 0;
}

static void replace(struct libvirt_table *table, const struct libvirt_domain *domains, size_t n)
{
    struct libvirt_domain *copy = calloc(n + 1, sizeof(*copy));

    assert_non_null(copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = domains[i];
    libvirt_table_replace(table, copy, n);
}

static void test_list(void **state)
{
    const struct libvirt_domain list[] = {domain(3, "c", 1), domain(1, "a", 2), domain(2, "b", 0)};
    struct libvirt_table *table = *state;

    assert_holds(table, "");
    replace(table, list, 3);
    assert_true(has_changed(table));
    assert_holds(table, "abc");
    replace(table, list, 3);
    assert_false(has_changed(table)); /* the same, in whatever order */
    replace(table, list, 2);
    assert_true(has_changed(table));
    assert_holds(table, "ac");
    replace(table, NULL, 0);
    assert_true(has_changed(table));
    assert_holds(table, "");
}

static void test_events(void **state)
{
    struct libvirt_table *table = *state;
    struct libvirt_domain renamed = domain(7, "z", 0), again;
    char all[] = "abcdefghijklmnopqrst";

    for (unsigned char i = 20; i > 0; i--) { /* more than there is room for at first */
        const struct libvirt_domain new = domain(i, (char[]){all[i - 1], 0}, 0);

        libvirt_table_put(table, &new);
        assert_true(has_changed(table));
    }
    assert_holds(table, all);
    libvirt_table_put(table, &renamed);
    assert_true(has_changed(table));
    assert_holds(table, "abcdefzhijklmnopqrst");
    again = domain(7, "z", 0);
    libvirt_table_put(table, &again);
    assert_false(has_changed(table));
    libvirt_table_remove(table, renamed.uuid);
    assert_true(has_changed(table));
    assert_holds(table, "abcdefhijklmnopqrst");
    libvirt_table_remove(table, renamed.uuid);
    assert_false(has_changed(table));
}

static void test_arrival_belongs_to_the_start(void **state)
{
    const struct libvirt_domain running = domain(5, "a", 4), other = domain(6, "b", 4);
    struct libvirt_table *table = *state;
    struct vm_arrival arrival = {0};

    libvirt_table_put(table, &running);
    assert_false(libvirt_table_arrival(table, running.uuid, 3, &arrival));
    assert_false(libvirt_table_arrival(table, other.uuid, 4, &arrival));
    assert_true(libvirt_table_arrival(table, running.uuid, 4, &arrival));
    assert_true(arrival.present);
    libvirt_table_forget_starts(table);
    assert_false(libvirt_table_arrival(table, running.uuid, 4, &arrival));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arrival_belongs_to_the_start, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
