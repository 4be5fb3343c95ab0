/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Reading a text from left to right; what the parsers of kernel texts are made
 * of. A take function that returns false may have moved the cursor.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "util/parse.h"

/* The bytes not yet read. */
struct cursor {
    const char *p;
    const char *end;
};

/* The next word: at least one byte, ended by a blank or newline, which is not taken. A word that
 * the end of the buffer cuts is no word: a truncated number would pass for a smaller one. */
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

/* The digits at the cursor, at least one; whatever follows is not taken. */
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
    size_t length = strlen(text);

    if ((size_t)(c->end - c->p) < length || memcmp(c->p, text, length) != 0)
        return false;
    c->p += length;
    return true;
}

static inline void skip_blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* The next line without its newline; false at the end, or where the newline is missing. */
static inline bool take_line(struct cursor *c, struct cursor *ret_line)
{
    const char *newline = c->p < c->end ? memchr(c->p, '\n', (size_t)(c->end - c->p)) : NULL;

    if (!newline)
        return false;
    *ret_line = (struct cursor){c->p, newline};
    c->p = newline + 1;
    return true;
}
