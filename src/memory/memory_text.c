/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory/memory_text.h"

#include <errno.h>

#include "util/cursor.h"

/* "N0=123". */
static bool take_node(struct cursor *c, uint64_t *ret_node, uint64_t *ret_value)
{
    return take_byte(c, 'N') && take_digits(c, ret_node) && take_byte(c, '=') &&
           take_digits(c, ret_value);
}

static int add(uint64_t node, uint64_t value, uint64_t scale, uint64_t *nodes, size_t n_nodes)
{
    if (node >= n_nodes)
        return 0;
    if (__builtin_mul_overflow(value, scale, &value) ||
        __builtin_add_overflow(nodes[node], value, &nodes[node]))
        return -EBADMSG;
    return 0;
}

/* The rest of the line behind the key; the text must not be cut. */
static bool find_line(const char *text, size_t length, const char *key, struct cursor *ret)
{
    struct cursor c = {text, text + length}, line;

    if (length == 0 || text[length - 1] != '\n')
        return false;
    while (take_line(&c, &line))
        if (take_text(&line, key)) {
            *ret = line;
            return true;
        }
    return false;
}

/* "N0=123 N2=456" to the line's end. */
static int add_line(struct cursor line, uint64_t scale, uint64_t *nodes, size_t n_nodes)
{
    while (line.p < line.end) {
        uint64_t node, value;

        skip_blanks(&line);
        if (!take_node(&line, &node, &value) || add(node, value, scale, nodes, n_nodes) < 0)
            return -EBADMSG;
    }
    return 0;
}

/* Node by node the larger value; both lines name the same nodes. */
static int add_larger(struct cursor a, struct cursor b, uint64_t *nodes, size_t n_nodes)
{
    while (a.p < a.end) {
        uint64_t node_a, node_b, value_a, value_b;

        skip_blanks(&a);
        skip_blanks(&b);
        if (!take_node(&a, &node_a, &value_a) || !take_node(&b, &node_b, &value_b) ||
            node_a != node_b ||
            add(node_a, value_a > value_b ? value_a : value_b, 1, nodes, n_nodes) < 0)
            return -EBADMSG;
    }
    return b.p == b.end ? 0 : -EBADMSG;
}

int parse_cgroup2_numa_stat(const char *text, size_t length, uint64_t *nodes, size_t n_nodes)
{
    struct cursor anonymous, shared, mapped;

    if (!find_line(text, length, "anon ", &anonymous) ||
        !find_line(text, length, "shmem ", &shared) ||
        !find_line(text, length, "file_mapped ", &mapped) ||
        add_line(anonymous, 1, nodes, n_nodes) < 0)
        return -EBADMSG;
    return add_larger(shared, mapped, nodes, n_nodes);
}

/* Takes the total before the nodes as well: "123 N0=123". */
static int add_line_after_total(struct cursor line, uint64_t scale, uint64_t *nodes, size_t n_nodes)
{
    uint64_t total;

    if (!take_digits(&line, &total))
        return -EBADMSG;
    return add_line(line, scale, nodes, n_nodes);
}

int parse_cgroup1_numa_stat(const char *text, size_t length, uint64_t page_size, uint64_t *nodes,
                            size_t n_nodes)
{
    struct cursor anonymous, unevictable;

    if (!find_line(text, length, "hierarchical_anon=", &anonymous) ||
        !find_line(text, length, "hierarchical_unevictable=", &unevictable) ||
        add_line_after_total(anonymous, page_size, nodes, n_nodes) < 0)
        return -EBADMSG;
    return add_line_after_total(unevictable, page_size, nodes, n_nodes);
}

int parse_hugetlb_numa_stat(const char *text, size_t length, uint64_t *nodes, size_t n_nodes)
{
    struct cursor total;

    /* v1 has the group alone and, below it, the group with its children; v2 only the latter. */
    if (!find_line(text, length, "hierarchical_total=", &total) &&
        !find_line(text, length, "total=", &total))
        return -EBADMSG;
    return add_line_after_total(total, 1, nodes, n_nodes);
}

/* Words are separated by blanks; in a file's name the kernel escapes blanks and '='. */
static bool next_word(struct cursor *line, struct cursor *ret)
{
    const char *blank;

    skip_blanks(line);
    if (line->p == line->end)
        return false;
    blank = memchr(line->p, ' ', (size_t)(line->end - line->p));
    *ret = (struct cursor){line->p, blank ? blank : line->end};
    line->p = ret->end;
    return true;
}

/* Size of the pages that a line of numa_maps counts; 0 where it counts none. */
static int line_page_size(struct cursor line, uint64_t *ret_size, bool *ret_huge)
{
    struct cursor word;
    uint64_t kilobytes;

    *ret_size = 0;
    *ret_huge = false;
    while (next_word(&line, &word)) {
        if (word.end - word.p == 4 && memcmp(word.p, "huge", 4) == 0)
            *ret_huge = true;
        if (!take_text(&word, "kernelpagesize_kB="))
            continue;
        if (!take_digits(&word, &kilobytes) || word.p != word.end ||
            __builtin_mul_overflow(kilobytes, 1024, ret_size))
            return -EBADMSG;
    }
    return 0;
}

/* "7f5c9c000000 bind:0-1 file=/memfd:ram\040(deleted) huge dirty=3 N0=1 N1=2 kernelpagesize_kB=4":
 * address and memory policy, then the rest in any order. */
static int add_mapping(struct cursor line, uint64_t *nodes, uint64_t *huge_nodes, size_t n_nodes)
{
    struct cursor word;
    uint64_t page_size;
    bool huge;

    if (line_page_size(line, &page_size, &huge) < 0 || !next_word(&line, &word) ||
        !next_word(&line, &word))
        return -EBADMSG;
    while (next_word(&line, &word)) {
        uint64_t node, pages;

        if (!take_node(&word, &node, &pages))
            continue;
        if (word.p != word.end || page_size == 0 ||
            add(node, pages, page_size, huge ? huge_nodes : nodes, n_nodes) < 0)
            return -EBADMSG;
    }
    return 0;
}

int parse_numa_maps(const char *text, size_t length, uint64_t *nodes, uint64_t *huge_nodes,
                    size_t n_nodes)
{
    struct cursor c = {text, text + length}, line;

    if (length > 0 && text[length - 1] != '\n')
        return -EBADMSG;
    while (take_line(&c, &line))
        if (add_mapping(line, nodes, huge_nodes, n_nodes) < 0)
            return -EBADMSG;
    return 0;
}
