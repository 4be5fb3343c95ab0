/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A stretch of text, and reading it from left to right; the parsers of kernel
 * texts are made of these functions. A take function that returns false may
 * have moved the cursor.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "util/parse.h"

/* The bytes not yet read; not NUL-terminated. */
struct cursor {
    const char *p;
    const char *end;
};

static inline size_t cursor_length(struct cursor c)
{
    return (size_t)(c.end - c.p);
}

static inline bool cursor_starts_with(struct cursor c, const char *prefix)
{
    size_t length = strlen(prefix);

    return cursor_length(c) >= length && memcmp(c.p, prefix, length) == 0;
}

static inline bool cursor_ends_with(struct cursor c, const char *suffix)
{
    size_t length = strlen(suffix);

    return cursor_length(c) >= length && memcmp(c.end - length, suffix, length) == 0;
}

static inline bool cursor_equals(struct cursor c, const char *text)
{
    return cursor_length(c) == strlen(text) && cursor_starts_with(c, text);
}

/* The next word: at least one byte, ended by a blank or newline, which is not taken. A word at the
 * end of the buffer is refused, since it may be cut: a cut number would pass for a smaller one. */
static inline bool take_word(struct cursor *c, const char **ret, size_t *ret_length)
{
    const char *p = c->p;

    while (p < c->end && *p != ' ' && *p != '\n')
        p++;
    if (p == c->p || p == c->end)
        return false;
    *ret = c->p;
    *ret_length = (size_t)(p - c->p);
    c->p = p;
    return true;
}

static inline bool take_number(struct cursor *c, uint64_t *ret)
{
    const char *word;
    size_t length;

    return take_word(c, &word, &length) && parse_u64(word, length, ret) == 0;
}

static inline bool take_int(struct cursor *c, int *ret)
{
    uint64_t value;

    if (!take_number(c, &value) || value > INT_MAX)
        return false;
    *ret = (int)value;
    return true;
}

/* The digits at the cursor, at least one; other bytes after them are not taken. */
static inline bool take_digits(struct cursor *c, uint64_t *ret)
{
    const char *digits = c->p;

    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return parse_u64(digits, (size_t)(c->p - digits), ret) == 0;
}

static inline bool take_byte(struct cursor *c, char byte)
{
    if (c->p == c->end || *c->p != byte)
        return false;
    c->p++;
    return true;
}

static inline bool take_text(struct cursor *c, const char *text)
{
    if (!cursor_starts_with(*c, text))
        return false;
    c->p += strlen(text);
    return true;
}

static inline void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* The bytes up to the next separator, which is taken but not returned; false without one. */
static inline bool take_until(struct cursor *c, char separator, struct cursor *ret)
{
    const char *end = c->p < c->end ? memchr(c->p, separator, cursor_length(*c)) : NULL;

    if (!end)
        return false;
    *ret = (struct cursor){c->p, end};
    c->p = end + 1;
    return true;
}

/* The same, but the last field needs no separator; false at the end. */
static inline bool take_field(struct cursor *c, char separator, struct cursor *ret)
{
    if (take_until(c, separator, ret))
        return true;
    *ret = *c;
    c->p = c->end;
    return ret->p < ret->end;
}

/* The next line without its newline; false at the end, or where the newline is missing. */
static inline bool take_line(struct cursor *c, struct cursor *ret_line)
{
    return take_until(c, '\n', ret_line);
}
