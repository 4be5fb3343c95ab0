/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host/topology_text.h"

#include <errno.h>

#include "util/cursor.h"

/* One range "a-b" or "a", above all before it. */
static bool take_range(struct cursor *c, int64_t above, uint64_t *ret_first, uint64_t *ret_last)
{
    if (!take_digits(c, ret_first))
        return false;
    *ret_last = *ret_first;
    if (take_byte(c, '-') && !take_digits(c, ret_last))
        return false;
    return *ret_last <= INT_MAX && *ret_first <= *ret_last && (int64_t)*ret_first > above;
}

/* Checks the list, and marks its CPUs where listed is not NULL. */
static int walk_cpulist(struct cursor c, bool *listed, size_t n_cpus)
{
    int64_t above = -1;

    if (take_byte(&c, '\n'))
        return c.p == c.end ? 0 : -EBADMSG;
    do {
        uint64_t first, last;

        if (!take_range(&c, above, &first, &last))
            return -EBADMSG;
        for (uint64_t cpu = first; listed && cpu <= last && cpu < n_cpus; cpu++)
            listed[cpu] = true;
        above = (int64_t)last;
    } while (take_byte(&c, ','));
    return take_byte(&c, '\n') && c.p == c.end ? 0 : -EBADMSG;
}

int parse_cpulist(const char *text, size_t length, bool *ret_listed, size_t n_cpus)
{
    struct cursor c = {text, text + length};
    int r = walk_cpulist(c, NULL, 0);

    if (r < 0)
        return r;
    memset(ret_listed, 0, n_cpus * sizeof(*ret_listed));
    return walk_cpulist(c, ret_listed, n_cpus);
}

static int walk_distances(struct cursor c, unsigned *ret, size_t *ret_n)
{
    size_t n = 0;

    do {
        int distance;

        if (!take_int(&c, &distance))
            return -EBADMSG;
        if (ret)
            ret[n] = (unsigned)distance;
        n++;
    } while (take_byte(&c, ' '));
    *ret_n = n;
    return take_byte(&c, '\n') && c.p == c.end ? 0 : -EBADMSG;
}

int parse_node_distances(const char *text, size_t length, unsigned *ret, size_t max, size_t *ret_n)
{
    struct cursor c = {text, text + length};
    size_t n;

    if (walk_distances(c, NULL, &n) < 0 || n > max)
        return -EBADMSG;
    return walk_distances(c, ret, ret_n);
}
