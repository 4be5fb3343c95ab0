/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory/memory_text.h"

#define NODES 4

struct expected {
    const char *text;
    int r;
    uint64_t nodes[NODES]; /* where it was parsed */
};

/* All parsers with one signature. */
typedef int (*parser)(const char *text, size_t length, uint64_t *nodes, size_t n_nodes);

static int parse_cgroup1(const char *text, size_t length, uint64_t *nodes, size_t n_nodes)
{
    return parse_cgroup1_numa_stat(text, length, 4096, nodes, n_nodes);
}

/* Huge pages weigh more, to be told from the others. */
#define HUGE_WEIGHT UINT64_C(1000000)

static int parse_maps(const char *text, size_t length, uint64_t *nodes, size_t n_nodes)
{
    uint64_t huge[NODES] = {0};
    int r = parse_numa_maps(text, length, nodes, huge, n_nodes);

    for (size_t i = 0; i < n_nodes; i++)
        nodes[i] += HUGE_WEIGHT * huge[i];
    return r;
}

static void check(parser parse, const struct expected *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(cases[i].text);
        uint64_t nodes[NODES] = {0};
        char *text = malloc(length ? length : 1);

        assert_non_null(text);
        memcpy(text, cases[i].text, length);
        assert_int_equal(parse(text, length, nodes, NODES), cases[i].r);
        if (cases[i].r == 0)
            assert_memory_equal(nodes, cases[i].nodes, sizeof(nodes));
        free(text);
    }
}

/* As kernel 6.1 writes it, lines in its order; a guest on memfd memory. */
#define CGROUP2(anon, shmem, mapped)                                                               \
    "anon " anon "\nfile N0=5000000 N2=0\nkernel_stack N0=49152 N2=0\npagetables N0=8192 N2=0\n"   \
    "sec_pagetables N0=0 N2=0\nshmem " shmem "\nfile_mapped " mapped                               \
    "\nfile_dirty N0=0 N2=0\nswapcached N0=0 N2=0\nanon_thp N0=2097152 N2=0\n"                     \
    "shmem_thp N0=0 N2=0\ninactive_anon N0=1 N2=1\n"

static void test_cgroup2(void **state)
{
    static const struct expected cases[] = {
        {CGROUP2("N0=100 N2=7", "N0=1000 N2=50", "N0=900 N2=60"), 0, {1100, 0, 67, 0}},
        {CGROUP2("N0=0 N2=0", "N0=0 N2=0", "N0=0 N2=0"), 0, {0}},
        /* A node beyond the ones that are known is left out. */
        {CGROUP2("N0=1 N9=7", "N0=1 N9=7", "N0=1 N9=7"), 0, {2}},
        {CGROUP2("N0=1", "N0=1 N2=7", "N0=1"), -EBADMSG, {0}},
        {CGROUP2("N0=1", "N0=1", "N0=1 N2=7"), -EBADMSG, {0}},
        {CGROUP2("N0=1", "N0=1 N1=1", "N0=1 N2=7"), -EBADMSG, {0}},
        {CGROUP2("N0=", "N0=1", "N0=1"), -EBADMSG, {0}},
        {CGROUP2("0=5", "N0=1", "N0=1"), -EBADMSG, {0}},
        {CGROUP2("N0=-5", "N0=1", "N0=1"), -EBADMSG, {0}},
        {CGROUP2("N0=18446744073709551615", "N0=1", "N0=1"), -EBADMSG, {0}},
        {CGROUP2("N0=18446744073709551616", "N0=1", "N0=1"), -EBADMSG, {0}},
        {"anon N0=1\nshmem N0=1\n", -EBADMSG, {0}},
        {"anon_thp N0=1\nshmem N0=1\nfile_mapped N0=1\n", -EBADMSG, {0}},
        {"anon N0=1\nshmem N0=1\nfile_mapped N0=1", -EBADMSG, {0}},
        {"", -EBADMSG, {0}},
    };

    check(parse_cgroup2_numa_stat, cases, ELEMENTS(cases));
}

#define CGROUP1(anon, unevictable)                                                                 \
    "total=9 N0=9\nfile=2 N0=2\nanon=7 N0=7\nunevictable=0 N0=0\nhierarchical_total=9 N0=9\n"      \
    "hierarchical_file=2 N0=2\nhierarchical_anon=" anon "\nhierarchical_unevictable=" unevictable  \
    "\n"

static void test_cgroup1(void **state)
{
    static const struct expected cases[] = {
        {CGROUP1("7 N0=7 N2=0", "3 N0=1 N2=2"), 0, {8 * 4096, 0, 2 * 4096, 0}},
        {CGROUP1("7", "3"), 0, {0}},
        {CGROUP1("", "3 N0=1"), -EBADMSG, {0}},
        {CGROUP1("7 N0", "3 N0=1"), -EBADMSG, {0}},
        {CGROUP1("7 N0=18446744073709551615", "3 N0=1"), -EBADMSG, {0}},
        {"total=9 N0=9\nfile=2 N0=2\nanon=7 N0=7\nunevictable=0 N0=0\n", -EBADMSG, {0}},
        {"hierarchical_anon=1 N0=1\nhierarchical_unevictable=0 N0", -EBADMSG, {0}},
    };

    check(parse_cgroup1, cases, ELEMENTS(cases));
}

static void test_hugetlb(void **state)
{
    static const struct expected cases[] = {
        {"total=6291456 N0=2097152 N3=4194304\n", 0, {2097152, 0, 0, 4194304}},
        {"total=0 N0=0\nhierarchical_total=2097152 N0=2097152\n", 0, {2097152}},
        {"total=0\n", 0, {0}},
        {"total= N0=1\n", -EBADMSG, {0}},
        {"total=5 N0=1", -EBADMSG, {0}},
        {"total=5 X0=1\n", -EBADMSG, {0}},
        {"\n", -EBADMSG, {0}},
        {"", -EBADMSG, {0}},
    };

    check(parse_hugetlb_numa_stat, cases, ELEMENTS(cases));
}

static void test_numa_maps(void **state)
{
    static const struct expected cases[] = {
        {"55d0 default file=/usr/bin/qemu mapped=4 mapmax=2 N0=3 N2=1 kernelpagesize_kB=4\n"
         "7f00 bind:0-1 anon=262144 dirty=262144 N1=262144 kernelpagesize_kB=4\n"
         "7f40 default file=/memfd:ram\\040(deleted) dirty=2 active=0 N0=2 kernelpagesize_kB=4\n"
         "7ffd default stack\n",
         0,
         {5 * 4096, 262144 * UINT64_C(4096), 4096, 0}},
        {"7f80 prefer:1 file=/anon_hugepage\\040(deleted) huge anon=2 dirty=2 N0=1 N1=2 "
         "kernelpagesize_kB=2048\n7f90 default anon=1 N0=1 kernelpagesize_kB=4\n",
         0,
         {(2048 * HUGE_WEIGHT + 4) * 1024, 2 * 2048 * HUGE_WEIGHT * 1024, 0, 0}},
        /* A name, a policy or an address that look like counts. */
        {"7f00 default file=/tmp/N0\\0759 N1=1 kernelpagesize_kB=4\n", 0, {0, 4096, 0, 0}},
        {"7f00 default file=N0=9 N1=1 kernelpagesize_kB=4\n", 0, {0, 4096, 0, 0}},
        {"7f00 N0=9 N1=1 kernelpagesize_kB=4\n", 0, {0, 4096, 0, 0}},
        {"7f00 default N77=1 kernelpagesize_kB=4\n", 0, {0}},
        {"", 0, {0}}, /* a kernel thread */
        {"7f00 default N0=1\n", -EBADMSG, {0}},
        {"7f00 default N0=1 kernelpagesize_kB=\n", -EBADMSG, {0}},
        {"7f00 default N0=1x kernelpagesize_kB=4\n", -EBADMSG, {0}},
        {"7f00 default N0=1 kernelpagesize_kB=4", -EBADMSG, {0}},
        {"7f00 default N0=18446744073709551615 kernelpagesize_kB=4\n", -EBADMSG, {0}},
        {"7f00 default N0=1 kernelpagesize_kB=18446744073709551615\n", -EBADMSG, {0}},
        {"7f00\n", -EBADMSG, {0}},
        {"\n", -EBADMSG, {0}},
    };

    check(parse_maps, cases, ELEMENTS(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cgroup2),
        cmocka_unit_test(test_cgroup1),
        cmocka_unit_test(test_hugetlb),
        cmocka_unit_test(test_numa_maps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
