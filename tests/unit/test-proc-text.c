/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/proc_text.h"

/* A copy of exactly its length, so that the sanitizer sees a read past the end. */
static char *exact_copy(const char *text, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static int parse_stat(const char *text, size_t length, struct proc_stat *ret)
{
    char *copy = exact_copy(text, length);
    int r = parse_proc_stat(copy, length, ret);

    free(copy);
    return r;
}

/* All after the comm, recorded from a QEMU process. */
#define STAT_TAIL                                                                                  \
    " S 4574 5923 4574 0 -1 4194304 104 77 5 6 123456 7890 11 12 20 -5 9 0 138988 2998272 414 "    \
    "18446744073709551615 94464421261312 94464421285417 140734558980416 0 0 0 0 4096 0 0 0 0 17 "  \
    "5 0 0 0 0 0 94464421301264 94464421302880 94464717680640 140734558988716 140734558988744 "    \
    "140734558988744 140734558990314 0\n"

static void test_stat(void **state)
{
    static const char text[] = "5926 (qemu-system-x86)" STAT_TAIL;
    struct proc_stat stat;

    assert_int_equal(parse_stat(text, sizeof(text) - 1, &stat), 0);
    assert_int_equal(stat.pid, 5926);
    assert_string_equal(stat.comm, "qemu-system-x86");
    assert_int_equal(stat.state, 'S');
    assert_int_equal(stat.ppid, 4574);
    assert_int_equal(stat.flags, 4194304);
    /* Guest time is field 43; utime already holds it and must come back as it is. */
    assert_int_equal(stat.utime_ticks, 123456);
    assert_int_equal(stat.stime_ticks, 7890);
    assert_int_equal(stat.start_ticks, 138988);
    assert_int_equal(stat.processor, 5);
}

static void test_stat_kernel_thread(void **state)
{
    static const char text[] =
        "812 (vhost-801) S 2 0 0 0 -1 2129984 0 0 0 0 0 44 0 0 20 0 1 0 700 0 0 "
        "18446744073709551615 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    struct proc_stat stat;

    assert_int_equal(parse_stat(text, sizeof(text) - 1, &stat), 0);
    assert_string_equal(stat.comm, "vhost-801");
    assert_true(stat.flags & PROC_FLAG_KTHREAD);
    assert_int_equal(stat.stime_ticks, 44);
}

static void test_stat_comm(void **state)
{
    static const char *const comms[] = {
        "",
        ")",
        "a) R 1 (b",
        "two words",
        "line\nbreak",
        "((((",
        ") S 1 2 3",
        "caf\xe9 \xff",
        "kworker/u16:2-events_unbound_and_a_long_name",
    };

    for (size_t i = 0; i < ELEMENTS(comms); i++) {
        struct proc_stat stat;
        char text[512];
        int length = snprintf(text, sizeof(text), "7 (%s)" STAT_TAIL, comms[i]);

        assert_int_equal(parse_stat(text, (size_t)length, &stat), 0);
        assert_string_equal(stat.comm, comms[i]);
        assert_int_equal(stat.ppid, 4574);
        assert_int_equal(stat.start_ticks, 138988);
    }
}

/* Cut anywhere up to the byte after the CPU's number, the text is refused: half a number would
 * pass for another one. */
static void test_stat_truncated(void **state)
{
    static const char text[] = "5926 (qemu) x)" STAT_TAIL;
    size_t needed = (size_t)(strstr(text, " 17 5 ") - text) + 6;
    struct proc_stat stat;

    for (size_t length = 0; length < sizeof(text); length++) {
        memset(&stat, 'x', sizeof(stat));
        assert_int_equal(parse_stat(text, length, &stat), length < needed ? -EBADMSG : 0);
        if (length < needed)
            assert_int_equal(stat.comm[0], 'x');
    }
}

/* A short text with places to break. */
#define STAT_TEXT(head, state, ppid, utime, start, cpu)                                            \
    head " " state " " ppid " 1 1 0 -1 0 0 0 0 0 " utime " 1 0 0 20 0 1 0 " start                  \
         " 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 " cpu " 0\n"

static void test_stat_broken(void **state)
{
    static const char *const texts[] = {
        "\n",
        "hello",
        STAT_TEXT("-1 (a)", "S", "1", "1", "7", "0"),
        STAT_TEXT("2147483648 (a)", "S", "1", "1", "7", "0"),
        STAT_TEXT("99999999999999999999999 (a)", "S", "1", "1", "7", "0"),
        STAT_TEXT("1 a", "S", "1", "1", "7", "0"),
        STAT_TEXT("1  (a)", "S", "1", "1", "7", "0"),
        STAT_TEXT("1 )(", "S", "1", "1", "7", "0"),
        STAT_TEXT("(a)", "S", "1", "1", "7", "0"),
        STAT_TEXT("1 (a)", "SS", "1", "1", "7", "0"),
        STAT_TEXT("1 (a)", "S", "-1", "1", "7", "0"),
        STAT_TEXT("1 (a)", "S", "1", "-1", "7", "0"),
        STAT_TEXT("1 (a)", "S", "1", "18446744073709551616", "7", "0"),
        STAT_TEXT("1 (a)", "S", "1", " 1", "7", "0"),
        STAT_TEXT("1 (a)", "S", "1", "1", "0x7", "0"),
        STAT_TEXT("1 (a)", "S", "1", "1", "7", "-1"),
        STAT_TEXT("1 (a)", "S", "1", "1", "7", "4294967296"),
    };
    static const char nul[] = "1 (a\0b)" STAT_TAIL;
    static const char good[] = STAT_TEXT("1 (a)", "S", "1", "1", "7", "0");
    struct proc_stat stat = {.pid = 42};

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        assert_int_equal(parse_stat(texts[i], strlen(texts[i]), &stat), -EBADMSG);
    assert_int_equal(parse_stat(nul, sizeof(nul) - 1, &stat), -EBADMSG);
    assert_int_equal(stat.pid, 42);
    /* What the others were made of. */
    assert_int_equal(parse_stat(good, sizeof(good) - 1, &stat), 0);
    assert_int_equal(stat.threads, 1);
    assert_int_equal(stat.start_ticks, 7);
}

/* The longest comm that fits, and one byte more. */
static void test_stat_comm_length(void **state)
{
    struct proc_stat stat;

    for (int length = 63; length <= 64; length++) {
        char text[512];
        int n = snprintf(text, sizeof(text), "7 (%0*d)" STAT_TAIL, length, 0);

        assert_int_equal(parse_stat(text, (size_t)n, &stat), length == 63 ? 0 : -EBADMSG);
    }
}

/* The parsers of one number share a table. */
static int parse_number(int (*parse)(const char *, size_t, uint64_t *), const char *text,
                        uint64_t *ret)
{
    char *copy = exact_copy(text, strlen(text));
    int r = parse(copy, strlen(text), ret);

    free(copy);
    return r;
}

#define IO_HEAD "rchar: 8385\nwchar: 1409\nsyscr: 14\nsyscw: 2\n"

static void test_numbers(void **state)
{
    static const struct {
        int (*parse)(const char *, size_t, uint64_t *);
        const char *text;
        int r;
        uint64_t value;
    } cases[] = {
        {parse_proc_schedstat, "123456789 55 3\n", 0, 123456789},
        {parse_proc_schedstat, "0 0 0\n", 0, 0},
        {parse_proc_schedstat, "18446744073709551615 0 0\n", 0, UINT64_MAX},
        {parse_proc_schedstat, "18446744073709551616 0 0\n", -EBADMSG, 0},
        {parse_proc_schedstat, "123456789 55 3", -EBADMSG, 0},
        {parse_proc_schedstat, "123456789 55\n", -EBADMSG, 0},
        {parse_proc_schedstat, "123456", -EBADMSG, 0},
        {parse_proc_schedstat, "-1 0 0\n", -EBADMSG, 0},
        {parse_proc_schedstat, "", -EBADMSG, 0},
        {parse_proc_schedstat, "\n", -EBADMSG, 0},

        {parse_proc_io, IO_HEAD "read_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 7\n", 0,
         4608},
        {parse_proc_io, IO_HEAD "read_bytes: 0\nwrite_bytes: 0\n", 0, 0},
        {parse_proc_io, IO_HEAD "read_bytes: 4096\nwrite_bytes: 51", -EBADMSG, 0},
        {parse_proc_io, IO_HEAD "read_bytes: 4096\n", -EBADMSG, 0},
        {parse_proc_io, IO_HEAD "read_bytes: 1\nread_bytes: 1\nwrite_bytes: 1\n", -EBADMSG, 0},
        {parse_proc_io, IO_HEAD "read_bytes: 18446744073709551615\nwrite_bytes: 1\n", -EBADMSG, 0},
        {parse_proc_io, IO_HEAD "read_bytes: \nwrite_bytes: 1\n", -EBADMSG, 0},
        {parse_proc_io, IO_HEAD "read_bytes: 1 kB\nwrite_bytes: 1\n", -EBADMSG, 0},
        {parse_proc_io, "", -EBADMSG, 0},

        {parse_meminfo_used,
         "MemTotal:       24684092 kB\nMemFree:        24501020 kB\nMemAvailable:   24424308 kB\n"
         "Buffers:             672 kB\nCached:           53220 kB\nSwapCached:            4 kB\n"
         "Shmem:              1208 kB\nKReclaimable:       9000 kB\nSReclaimable:       8192 kB\n",
         0, (24684092 - 24501020 - (672 + 53220 + 4 - 1208) - 8192) * UINT64_C(1024)},
        {parse_meminfo_used,
         "Node 0 MemTotal:        6645972 kB\nNode 0 MemFree:         5821332 kB\n"
         "Node 0 MemUsed:          824640 kB\nNode 0 SwapCached:            8 kB\n"
         "Node 0 Active(file):     308500 kB\nNode 0 FilePages:        363488 kB\n"
         "Node 0 Shmem:              8856 kB\nNode 0 KReclaimable:     230624 kB\n"
         "Node 0 SReclaimable:     220624 kB\nNode 0 HugePages_Total:     0\n",
         0, (6645972 - 5821332 - (363488 - 8856) - 220624) * UINT64_C(1024)},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemFree: 5 kB\n", 0, 0},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemFree: 1 kB\nCached: 1 kB\nShmem: 2 kB\n", 0, 4096},
        {parse_meminfo_used, "Node 7 MemTotal: 5 kB\nNode 7 MemFree: 4 kB\n", 0, 1024},
        {parse_meminfo_used, "Node x MemTotal: 5 kB\nNode x MemFree: 4 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemFree: 6 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemFree: 4 kB\nCached: 2 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemAvailable: 4 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 5 kB\nMemFree: 4 k", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 5\nMemFree: 4 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "MemTotal: 18446744073709551615 kB\nMemFree: 4 kB\n", -EBADMSG, 0},
        {parse_meminfo_used, "\n\n\n", -EBADMSG, 0},
    };

    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        uint64_t value = 42;

        assert_int_equal(parse_number(cases[i].parse, cases[i].text, &value), cases[i].r);
        assert_int_equal(value, cases[i].r == 0 ? cases[i].value : 42);
    }
}

#define SOCKETS                                                                                    \
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "  \
    "inode                                                     \n"
#define REST " 00000000:00000000 00:00000000 00000000     0        0 "

static int parse_listener(const char *text, unsigned port, uint64_t *ret)
{
    char *copy = exact_copy(text, strlen(text));
    int r = parse_proc_listener(copy, strlen(text), port, ret);

    free(copy);
    return r;
}

static void test_listener(void **state)
{
    static const char text[] = SOCKETS
        "   0: 0100007F:4AE9 0100007F:07E8 01" REST "5 1 00000000a9523711 20 4 24 10 -1\n"
        "   1: 00000000:07E8 00000000:0000 0A" REST "1061 1 00000000a9523711 100 0 0 10 0  \n"
        " 100: 0100007F:4AE9 00000000:0000 0A" REST "1062 1 00000000a9523711 100 0 0 10 0  \n"
        " 101: 020200C0:92B2 507100CB:0050 06" REST "0 3 00000000a7e74c76                  \n";
    static const char text6[] = SOCKETS
        "   0: 00000000000000000000000001000000:4AE9 00000000000000000000000000000000:0000 0A" REST
        "77 1 0000000000000000 100 0 0 10 0\n";
    static const char *const bad[] = {
        "",
        "  sl  local_address",
        SOCKETS "\n",
        SOCKETS "   0: :4AE9 :0000 0A" REST "\n",
        SOCKETS "   0: 0100007F:4AE9 0100007F:07E8 0A" REST "x 1\n",
        SOCKETS "   0: 0100007F:4AE9 0100007F:07E8 0A" REST "-1 1\n",
        SOCKETS "   0: 0100007F:4AE9 0100007F:07E8 0A" REST "18446744073709551616 1\n",
        SOCKETS "   0: 0100007F:4AE9 0100007F:07E8 0A" REST "17",
        SOCKETS "   0: 4AE9 0100007F:07E8 0A" REST "17 1\n",
    };
    uint64_t inode = 42;

    assert_int_equal(parse_listener(text, 0x4AE9, &inode), 0);
    assert_int_equal(inode, 1062);
    assert_int_equal(parse_listener(text, 2024, &inode), 0);
    assert_int_equal(inode, 1061);
    assert_int_equal(parse_listener(text6, 19177, &inode), 0);
    assert_int_equal(inode, 77);
    assert_int_equal(parse_listener(text, 0x92B2, &inode), -ENOENT);
    assert_int_equal(parse_listener(text, 70000, &inode), -ENOENT);
    assert_int_equal(parse_listener(SOCKETS, 19177, &inode), -ENOENT);
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        assert_int_equal(parse_listener(bad[i], 0x4AE9, &inode), -EBADMSG);
    assert_int_equal(inode, 77);
}

static int parse_memory(const char *text, size_t length, struct proc_memory *ret)
{
    char *copy = exact_copy(text, length);
    int r = parse_proc_memory(copy, length, ret);

    free(copy);
    return r;
}

static void test_memory(void **state)
{
    /* A comm's newline is escaped by the kernel: it cannot begin a line. */
    static const char text[] = "Name:\tRssAnon:\\n 7 kB\n"
                               "State:\tS (sleeping)\n"
                               "VmRSS:\t  277000 kB\n"
                               "RssAnon:\t   64112 kB\n"
                               "RssFile:\t   73644 kB\n"
                               "RssShmem:\t  139244 kB\n"
                               "HugetlbPages:\t    2048 kB\n"
                               "Threads:\t9\n";
    struct proc_memory memory;

    assert_int_equal(parse_memory(text, sizeof(text) - 1, &memory), 0);
    assert_int_equal(memory.anonymous, UINT64_C(64112) * 1024);
    assert_int_equal(memory.file, UINT64_C(73644) * 1024);
    assert_int_equal(memory.shared, UINT64_C(139244) * 1024);
    assert_int_equal(memory.huge, UINT64_C(2048) * 1024);
}

static void test_memory_kernel_thread(void **state)
{
    static const char text[] = "Name:\tvhost-801\nState:\tS (sleeping)\nThreads:\t1\n";
    struct proc_memory memory = {1, 2, 3, 4};

    assert_int_equal(parse_memory(text, sizeof(text) - 1, &memory), 0);
    assert_int_equal(memory.anonymous + memory.file + memory.shared + memory.huge, 0);
}

static void test_memory_broken(void **state)
{
    static const char *const texts[] = {
        "",
        "Name:\ta\nRssAnon:\t 64112 k",
        "Name:\ta\nRssAnon:\t 64",
        "Name:\ta\nRssAnon:\t kB\n",
        "Name:\ta\nRssAnon:\t -1 kB\n",
        "Name:\ta\nRssAnon:\t 1 MB\n",
        "Name:\ta\nRssAnon:\t 1 kB extra\n",
        "Name:\ta\nRssAnon:\t 18014398509481984 kB\n", /* 2^54 kB do not fit as bytes */
        "Name:\ta\nRssAnon:\t 1 kB\nRssAnon:\t 1 kB\n",
    };
    static const char largest[] = "Name:\ta\nRssAnon:\t 18014398509481983 kB\n";
    struct proc_memory memory = {1, 2, 3, 4};

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        assert_int_equal(parse_memory(texts[i], strlen(texts[i]), &memory), -EBADMSG);
    assert_int_equal(memory.anonymous, 1);
    assert_int_equal(memory.huge, 4);
    assert_int_equal(parse_memory(largest, sizeof(largest) - 1, &memory), 0);
    assert_int_equal(memory.anonymous, UINT64_MAX - 1023);
}

static int parse_cpus(const char *text, size_t length, struct proc_cpu *ret, size_t max,
                      size_t *ret_n)
{
    char *copy = exact_copy(text, length);
    int r = parse_proc_cpus(copy, length, ret, max, ret_n);

    free(copy);
    return r;
}

#define CPU_TOTAL "cpu  2037 0 2027 273049 273 0 33 9 0 0\n"
#define CPU_0 "cpu0 668 0 796 137211 7 0 4 2 0 0\n"
#define CPU_5 "cpu5 1369 0 1231 135837 266 0 28 7 0 0\n"
#define STAT_REST "intr 162347 0 0 0\nctxt 351083\nprocs_running 2\n"

static void test_cpus(void **state)
{
    static const char text[] = CPU_TOTAL CPU_0 CPU_5 STAT_REST;
    struct proc_cpu cpus[2];
    size_t n = 0;

    assert_int_equal(parse_cpus(text, sizeof(text) - 1, cpus, 2, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(cpus[0].cpu, 0);
    assert_int_equal(cpus[0].idle_ticks, 137218);
    assert_int_equal(cpus[0].steal_ticks, 2);
    assert_int_equal(cpus[1].cpu, 5);
    assert_int_equal(cpus[1].idle_ticks, 136103);
    assert_int_equal(cpus[1].steal_ticks, 7);
    assert_int_equal(parse_cpus(text, sizeof(text) - 1, cpus, 1, &n), -EBADMSG);
    assert_int_equal(n, 2);
}

/* Cut within the lines of the CPUs: refused, except at a line's end, where it cannot be seen. */
static void test_cpus_truncated(void **state)
{
    static const char text[] = CPU_TOTAL CPU_0 CPU_5 STAT_REST;
    const size_t first = strlen(CPU_TOTAL CPU_0), second = first + strlen(CPU_5);

    for (size_t length = 0; length < sizeof(text); length++) {
        struct proc_cpu cpus[2] = {{.cpu = 42}, {.cpu = 42}};
        bool whole = length == first || length == second || length >= second + 3;
        size_t n = 42;

        assert_int_equal(parse_cpus(text, length, cpus, 2, &n), whole ? 0 : -EBADMSG);
        if (whole)
            assert_int_equal(n, length == first ? 1 : 2);
        else
            assert_true(n == 42 && cpus[0].cpu == 42 && cpus[1].cpu == 42);
    }
}

static void test_cpus_broken(void **state)
{
    static const char *const texts[] = {
        "",
        STAT_REST,
        CPU_TOTAL STAT_REST,
        CPU_TOTAL "cpu0 1 2 3\n" STAT_REST,
        CPU_TOTAL "cpux 668 0 796 137211 7 0 4 2 0 0\n" STAT_REST,
        CPU_TOTAL "cpu4294967296 668 0 796 137211 7 0 4 2 0 0\n" STAT_REST,
        CPU_TOTAL "cpu0 668 0 796 18446744073709551615 7 0 4 2 0 0\n" STAT_REST,
        CPU_TOTAL "cpu0 668 0 796 -5 7 0 4 2 0 0\n" STAT_REST,
    };
    struct proc_cpu cpus[4];
    size_t n = 42;

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        assert_int_equal(parse_cpus(texts[i], strlen(texts[i]), cpus, 4, &n), -EBADMSG);
    assert_int_equal(n, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat),           cmocka_unit_test(test_stat_kernel_thread),
        cmocka_unit_test(test_stat_comm),      cmocka_unit_test(test_stat_truncated),
        cmocka_unit_test(test_stat_broken),    cmocka_unit_test(test_stat_comm_length),
        cmocka_unit_test(test_numbers),        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_listener),       cmocka_unit_test(test_memory_kernel_thread),
        cmocka_unit_test(test_memory_broken),  cmocka_unit_test(test_cpus),
        cmocka_unit_test(test_cpus_truncated), cmocka_unit_test(test_cpus_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
