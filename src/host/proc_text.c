/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/proc_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/cursor.h"
#include "util/macros.h"

static bool skip_words(struct cursor *c, unsigned n)
{
    const char *word;
    size_t length;

    while (n-- > 0)
        if (!take_byte(c, ' ') || !take_word(c, &word, &length))
            return false;
    return true;
}

/* The comm may hold ") " itself, and no later field can: the comm ends at the last parenthesis. */
static bool take_comm(struct cursor *c, char *ret, size_t size)
{
    const char *close = memrchr(c->p, ')', (size_t)(c->end - c->p));
    size_t length;

    if (!take_text(c, " (") || !close || close < c->p)
        return false;
    length = (size_t)(close - c->p);
    if (length >= size || memchr(c->p, '\0', length))
        return false;
    memcpy(ret, c->p, length);
    ret[length] = '\0';
    c->p = close + 1;
    return true;
}

static bool take_state(struct cursor *c, char *ret)
{
    const char *word;
    size_t length;

    if (!take_byte(c, ' ') || !take_word(c, &word, &length) || length != 1)
        return false;
    *ret = *word;
    return true;
}

int parse_proc_stat(const char *text, size_t length, struct proc_stat *ret)
{
    struct cursor c = {text, text + length};
    struct proc_stat stat = {0};

    if (!take_int(&c, &stat.pid) || !take_comm(&c, stat.comm, sizeof(stat.comm)) ||
        !take_state(&c, &stat.state) || !take_byte(&c, ' ') || !take_int(&c, &stat.ppid))
        return -EBADMSG;
    /* The fields of proc(5) by number: 4 is ppid, 9 flags, 14 utime, 15 stime, 20 num_threads,
     * 22 starttime, 39 processor. */
    if (!skip_words(&c, 8 - 4) || !take_byte(&c, ' ') || !take_number(&c, &stat.flags))
        return -EBADMSG;
    if (!skip_words(&c, 13 - 9) || !take_byte(&c, ' ') || !take_number(&c, &stat.utime_ticks) ||
        !take_byte(&c, ' ') || !take_number(&c, &stat.stime_ticks))
        return -EBADMSG;
    if (!skip_words(&c, 19 - 15) || !take_byte(&c, ' ') || !take_number(&c, &stat.threads))
        return -EBADMSG;
    if (!skip_words(&c, 21 - 20) || !take_byte(&c, ' ') || !take_number(&c, &stat.start_ticks))
        return -EBADMSG;
    if (!skip_words(&c, 38 - 22) || !take_byte(&c, ' ') || !take_int(&c, &stat.processor))
        return -EBADMSG;
    *ret = stat;
    return 0;
}

int parse_proc_schedstat(const char *text, size_t length, uint64_t *ret_cpu_ns)
{
    struct cursor c = {text, text + length};
    uint64_t cpu_ns, wait_ns, slices;

    if (!take_number(&c, &cpu_ns) || !take_byte(&c, ' ') || !take_number(&c, &wait_ns) ||
        !take_byte(&c, ' ') || !take_number(&c, &slices))
        return -EBADMSG;
    *ret_cpu_ns = cpu_ns;
    return 0;
}

/* A line "Key:   123 unit"; the value is scaled. */
struct proc_key {
    const char *key;
    const char *unit;
    uint64_t scale;
    uint64_t *value;
    bool found;
};

static int parse_value(struct cursor line, struct proc_key *key)
{
    uint64_t value;

    skip_blanks(&line);
    if (!take_digits(&line, &value) || !take_text(&line, key->unit) || line.p != line.end ||
        __builtin_mul_overflow(value, key->scale, &value))
        return -EBADMSG;
    *key->value = value;
    key->found = true;
    return 0;
}

/* Each line of a node's meminfo begins with "Node 0 ". */
static void skip_node(struct cursor *line)
{
    struct cursor c = *line;
    uint64_t node;

    if (take_text(&c, "Node ") && take_number(&c, &node) && take_byte(&c, ' '))
        *line = c;
}

/* A text that does not end in a newline was cut, and values may be missing: it is refused. */
static int parse_keys(const char *text, size_t length, struct proc_key *keys, size_t n)
{
    struct cursor c = {text, text + length};
    struct cursor line;

    if (length == 0 || text[length - 1] != '\n')
        return -EBADMSG;
    while (take_line(&c, &line)) {
        skip_node(&line);
        for (size_t i = 0; i < n; i++) {
            struct cursor rest = line;

            if (!take_text(&rest, keys[i].key))
                continue;
            if (keys[i].found || parse_value(rest, &keys[i]) < 0)
                return -EBADMSG;
        }
    }
    return 0;
}

int parse_proc_memory(const char *text, size_t length, struct proc_memory *ret)
{
    struct proc_memory memory = {0};
    struct proc_key keys[] = {
        {"RssAnon:", " kB", 1024, &memory.anonymous, false},
        {"RssFile:", " kB", 1024, &memory.file, false},
        {"RssShmem:", " kB", 1024, &memory.shared, false},
        {"HugetlbPages:", " kB", 1024, &memory.huge, false},
    };
    int r = parse_keys(text, length, keys, ARRAY_SIZE(keys));

    if (r < 0)
        return r;
    *ret = memory;
    return 0;
}

int parse_proc_io(const char *text, size_t length, uint64_t *ret_bytes)
{
    uint64_t read_bytes, write_bytes, sum;
    /* cancelled_write_bytes is not subtracted: it may count the writes of another process, and a
     * counter that goes backwards has no deltas. */
    struct proc_key keys[] = {
        {"read_bytes:", "", 1, &read_bytes, false},
        {"write_bytes:", "", 1, &write_bytes, false},
    };
    int r = parse_keys(text, length, keys, ARRAY_SIZE(keys));

    if (r < 0)
        return r;
    if (!keys[0].found || !keys[1].found || __builtin_add_overflow(read_bytes, write_bytes, &sum))
        return -EBADMSG;
    *ret_bytes = sum;
    return 0;
}

/* The end of a line "cpuN user nice system idle iowait irq softirq steal ..." after "cpu". */
static int parse_cpu(struct cursor *c, struct proc_cpu *ret)
{
    uint64_t idle, iowait;
    struct proc_cpu cpu;
    int number;

    if (!take_int(c, &number) || !skip_words(c, 3) || !take_byte(c, ' ') ||
        !take_number(c, &idle) || !take_byte(c, ' ') || !take_number(c, &iowait) ||
        !skip_words(c, 2) || !take_byte(c, ' ') || !take_number(c, &cpu.steal_ticks) ||
        __builtin_add_overflow(idle, iowait, &cpu.idle_ticks))
        return -EBADMSG;
    cpu.cpu = (unsigned)number;
    *ret = cpu;
    return 0;
}

/* Counts the CPUs, and stores them where ret is not NULL. Their lines are the first ones: another
 * line ends them, and only its first three bytes are needed, so that the text may be cut after. */
static int walk_cpus(const char *text, size_t length, struct proc_cpu *ret, size_t *ret_n)
{
    struct cursor c = {text, text + length};
    size_t n = 0;

    while (take_text(&c, "cpu")) {
        struct cursor total = c;
        struct cursor line;
        struct proc_cpu cpu;

        if (!take_byte(&total, ' ')) {
            if (parse_cpu(&c, &cpu) < 0)
                return -EBADMSG;
            if (ret)
                ret[n] = cpu;
            n++;
        }
        if (!take_line(&c, &line))
            return -EBADMSG;
    }
    if (n == 0 || (c.p < c.end && c.end - c.p < 3))
        return -EBADMSG;
    *ret_n = n;
    return 0;
}

int parse_proc_cpus(const char *text, size_t length, struct proc_cpu *ret, size_t max,
                    size_t *ret_n)
{
    size_t n;
    int r = walk_cpus(text, length, NULL, &n);

    if (r < 0)
        return r;
    if (n > max)
        return -EBADMSG;
    return walk_cpus(text, length, ret, ret_n);
}

int parse_meminfo_used(const char *text, size_t length, uint64_t *ret_bytes)
{
    uint64_t total, free, file = 0, buffers = 0, cached = 0, swap_cached = 0, shared = 0,
                          reclaimable = 0;
    struct proc_key keys[] = {
        {"MemTotal:", " kB", 1024, &total, false},
        {"MemFree:", " kB", 1024, &free, false},
        {"FilePages:", " kB", 1024, &file, false}, /* a node's; the host's are the next three */
        {"Buffers:", " kB", 1024, &buffers, false},
        {"Cached:", " kB", 1024, &cached, false},
        {"SwapCached:", " kB", 1024, &swap_cached, false},
        {"Shmem:", " kB", 1024, &shared, false},
        {"SReclaimable:", " kB", 1024, &reclaimable, false},
    };
    int r = parse_keys(text, length, keys, ARRAY_SIZE(keys));
    __uint128_t available;

    if (r < 0)
        return r;
    if (!keys[0].found || !keys[1].found)
        return -EBADMSG;
    if (!keys[2].found)
        available = (__uint128_t)buffers + cached + swap_cached;
    else
        available = file;
    /* The kernel does not read the counts at one moment. */
    available = available > shared ? available - shared : 0;
    available += (__uint128_t)free + reclaimable;
    if (available > total)
        return -EBADMSG;
    *ret_bytes = total - (uint64_t)available;
    return 0;
}

/* A line of /proc/net/tcp: its number, "ADDRESS:PORT" (hexadecimal), the same of the peer, the
 * state, two pairs of counts, retransmissions, user, timeout, inode. */
struct socket_line {
    char port[sizeof(":FFFF")];
    bool listens;
    uint64_t inode;
};

static bool take_padded_word(struct cursor *c, struct cursor *ret)
{
    const char *word;
    size_t length;

    skip_blanks(c);
    if (!take_word(c, &word, &length))
        return false;
    *ret = (struct cursor){word, word + length};
    return true;
}

static int parse_socket_line(struct cursor line, struct socket_line *ret)
{
    struct cursor local, state, word;

    if (!take_padded_word(&line, &word) || !take_padded_word(&line, &local) ||
        !take_padded_word(&line, &word) || !take_padded_word(&line, &state) ||
        cursor_length(local) < sizeof(ret->port))
        return -EBADMSG;
    for (unsigned i = 0; i < 5; i++)
        if (!take_padded_word(&line, &word))
            return -EBADMSG;
    skip_blanks(&line);
    if (!take_number(&line, &ret->inode))
        return -EBADMSG;
    memcpy(ret->port, local.end - (sizeof(ret->port) - 1), sizeof(ret->port) - 1);
    ret->port[sizeof(ret->port) - 1] = '\0';
    ret->listens = cursor_equals(state, "0A");
    return 0;
}

int parse_proc_listener(const char *text, size_t length, unsigned port, uint64_t *ret_inode)
{
    struct cursor c = {text, text + length}, line;
    char wanted[sizeof(":FFFFFFFF")];

    snprintf(wanted, sizeof(wanted), ":%04X", port);
    if (!take_line(&c, &line)) /* the heading */
        return -EBADMSG;
    while (take_line(&c, &line)) {
        struct socket_line parsed;

        if (parse_socket_line(line, &parsed) < 0)
            return -EBADMSG;
        if (parsed.listens && strcmp(parsed.port, wanted) == 0) {
            *ret_inode = parsed.inode;
            return 0;
        }
    }
    return c.p == c.end ? -ENOENT : -EBADMSG;
}
