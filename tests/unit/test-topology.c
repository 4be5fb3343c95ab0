/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "host/topology.h"
#include "host/topology_text.h"

#define SYSTEM "devices/system"

/* In memory of its own length, so that a sanitizer sees a read past the end. */
static char *exact_copy(const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);

    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static void test_cpulist(void **state)
{
    static const struct {
        const char *text;
        int r;
        unsigned listed; /* bit per CPU below 16 */
    } cases[] = {
        {"0-3,8-11\n", 0, 0x0f0f},
        {"5\n", 0, 0x0020},
        {"0,2,4\n", 0, 0x0015},
        {"\n", 0, 0},
        {"14-2147483647\n", 0, 0xc000},
        {"", -EBADMSG, 0},
        {"0-3", -EBADMSG, 0},
        {"0-3,\n", -EBADMSG, 0},
        {"0-\n", -EBADMSG, 0},
        {"-3\n", -EBADMSG, 0},
        {"3-1\n", -EBADMSG, 0},
        {"4,2\n", -EBADMSG, 0},
        {"0-3,3\n", -EBADMSG, 0},
        {"0-2147483648\n", -EBADMSG, 0},
        {"99999999999999999999\n", -EBADMSG, 0},
        {"0-3 8\n", -EBADMSG, 0},
        {"0\n1\n", -EBADMSG, 0},
        {"\n0\n", -EBADMSG, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *text = exact_copy(cases[i].text, strlen(cases[i].text));
        bool listed[16];

        memset(listed, 1, sizeof(listed));
        assert_int_equal(parse_cpulist(text, strlen(cases[i].text), listed, 16), cases[i].r);
        for (unsigned cpu = 0; cpu < 16; cpu++)
            assert_int_equal(listed[cpu], cases[i].r < 0 || (cases[i].listed >> cpu & 1));
        free(text);
    }
}

static void test_distances(void **state)
{
    static const struct {
        const char *text;
        int r;
        unsigned last;
        size_t n;
    } cases[] = {
        {"10 21 31\n", 0, 31, 3},     {"10\n", 0, 10, 1},         {"10 21 31 41\n", -EBADMSG, 0, 0},
        {"10 21", -EBADMSG, 0, 0},    {"", -EBADMSG, 0, 0},       {"\n", -EBADMSG, 0, 0},
        {"10  21\n", -EBADMSG, 0, 0}, {"10 x\n", -EBADMSG, 0, 0}, {"10 \n", -EBADMSG, 0, 0},
        {"10\n21\n", -EBADMSG, 0, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        char *text = exact_copy(cases[i].text, strlen(cases[i].text));
        unsigned distances[3] = {42, 42, 42};
        size_t n = 42;

        assert_int_equal(parse_node_distances(text, strlen(cases[i].text), distances, 3, &n),
                         cases[i].r);
        assert_int_equal(n, cases[i].r < 0 ? 42 : cases[i].n);
        assert_int_equal(distances[cases[i].r < 0 ? 0 : n - 1],
                         cases[i].r < 0 ? 42 : cases[i].last);
        free(text);
    }
}

static void write_cpu(const char *root, unsigned cpu, const char *package, const char *siblings)
{
    fixture_write(root, package, SYSTEM "/cpu/cpu%u/topology/physical_package_id", cpu);
    fixture_write(root, siblings, SYSTEM "/cpu/cpu%u/topology/thread_siblings_list", cpu);
}

/* Two sockets, two threads per core. */
static void write_cpus(const char *root)
{
    write_cpu(root, 0, "0\n", "0,4\n");
    write_cpu(root, 1, "0\n", "1,5\n");
    write_cpu(root, 2, "1\n", "2,6\n");
    write_cpu(root, 3, "1\n", "3,7\n");
    write_cpu(root, 4, "0\n", "0,4\n");
    write_cpu(root, 5, "0\n", "1,5\n");
    write_cpu(root, 6, "1\n", "2,6\n");
    write_cpu(root, 7, "1\n", "3,7\n");
}

static struct topology read_topology(const char *root)
{
    struct topology topology;

    assert_int_equal(topology_read(&topology, root, 8, 16), 0);
    return topology;
}

static void test_siblings(void **state)
{
    struct topology topology;

    write_cpus(*state);
    topology = read_topology(*state);
    for (int cpu = 0; cpu < 8; cpu++)
        assert_int_equal(topology.sibling[cpu], cpu < 4 ? cpu + 4 : cpu - 4);
    topology_deinit(&topology);

    write_cpu(*state, 0, "0\n", "0-3\n"); /* four threads */
    write_cpu(*state, 3, "0\n", "0-3\n");
    write_cpu(*state, 1, "0\n", "1\n");
    write_cpu(*state, 2, "0\n", "0-1-2\n");
    topology = read_topology(*state);
    assert_int_equal(topology.sibling[0], 1);
    assert_int_equal(topology.sibling[3], 0);
    assert_int_equal(topology.sibling[1], -1);
    assert_int_equal(topology.sibling[2], -1);
    topology_deinit(&topology);
}

static void test_a_cpu_goes_and_comes_back(void **state)
{
    struct topology topology;

    write_cpus(*state);
    fixture_remove(*state, SYSTEM "/cpu/cpu6/topology");
    write_cpu(*state, 2, "1\n", "2\n");
    topology = read_topology(*state);
    assert_int_equal(topology.socket[6], 0);
    assert_int_equal(topology.sibling[6], -1);
    assert_int_equal(topology.sibling[2], -1);
    topology_deinit(&topology);
    write_cpus(*state);
    topology = read_topology(*state);
    assert_int_equal(topology.socket[6], 1);
    assert_int_equal(topology.sibling[6], 2);
    assert_int_equal(topology.sibling[2], 6);
    topology_deinit(&topology);
}

static void check_nodes(const char *root, const struct topology_node *nodes, size_t n)
{
    struct topology topology = read_topology(root);

    assert_int_equal(topology.n_nodes, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(topology.nodes[i].number, nodes[i].number);
        assert_int_equal(topology.nodes[i].socket, nodes[i].socket);
        assert_int_equal(topology_node_socket(&topology, nodes[i].number), nodes[i].socket);
    }
    assert_int_equal(topology_node_socket(&topology, 1000), 0);
    topology_deinit(&topology);
}

static void test_no_nodes(void **state)
{
    write_cpus(*state);
    check_nodes(*state, (struct topology_node[]){{0, 0}}, 1);
    /* Not even a sysfs. */
    check_nodes("/nonexistent", (struct topology_node[]){{0, 0}}, 1);
}

/* Two nodes per socket, numbers that skip, and files that are no nodes. */
static void test_sub_numa_clusters(void **state)
{
    write_cpus(*state);
    fixture_write(*state, "0,4\n", SYSTEM "/node/node0/cpulist");
    fixture_write(*state, "1,5\n", SYSTEM "/node/node2/cpulist");
    fixture_write(*state, "2,6\n", SYSTEM "/node/node10/cpulist");
    fixture_write(*state, "3,7\n", SYSTEM "/node/node3/cpulist");
    fixture_write(*state, "0-10\n", SYSTEM "/node/online");
    fixture_write(*state, "0\n", SYSTEM "/node/node4294967296/cpulist");
    fixture_write(*state, "0\n", SYSTEM "/node/nodeX/cpulist");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {2, 0}, {3, 1}, {10, 1}}, 4);
}

/* A node of memory only belongs to the nearest socket: distances are in the order of the nodes
 * that are there. */
static void test_memory_nodes(void **state)
{
    write_cpus(*state);
    fixture_write(*state, "0-1,4-5\n", SYSTEM "/node/node0/cpulist");
    fixture_write(*state, "2-3,6-7\n", SYSTEM "/node/node4/cpulist");
    fixture_write(*state, "\n", SYSTEM "/node/node5/cpulist");
    fixture_write(*state, "\n", SYSTEM "/node/node6/cpulist");
    fixture_write(*state, "24 14 10 11\n", SYSTEM "/node/node5/distance");
    fixture_write(*state, "14 24 11 10\n", SYSTEM "/node/node6/distance");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {4, 1}, {5, 1}, {6, 0}}, 4);
    /* Broken, of another number of nodes, or missing: the first node with CPUs. */
    fixture_write(*state, "24 14 x 11\n", SYSTEM "/node/node5/distance");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {4, 1}, {5, 0}, {6, 0}}, 4);
    fixture_write(*state, "24 14\n", SYSTEM "/node/node5/distance");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {4, 1}, {5, 0}, {6, 0}}, 4);
    fixture_remove(*state, SYSTEM "/node/node5/distance");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {4, 1}, {5, 0}, {6, 0}}, 4);
    /* No node with CPUs at all. */
    fixture_write(*state, "\n", SYSTEM "/node/node0/cpulist");
    fixture_write(*state, "2-\n", SYSTEM "/node/node4/cpulist");
    check_nodes(*state, (struct topology_node[]){{0, 0}, {4, 0}, {5, 0}, {6, 0}}, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpulist),
        cmocka_unit_test(test_distances),
        cmocka_unit_test_setup_teardown(test_siblings, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_a_cpu_goes_and_comes_back, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_no_nodes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sub_numa_clusters, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_memory_nodes, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
