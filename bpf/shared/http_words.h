/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * The fast way through http_stream.h: up to eight bytes at a time, where they are what is
 * most frequent in a head. The effect is that of http_step() with the same bytes one by
 * one; the unit test and the fuzz target compare the two.
 */

#include "shared/http_stream.h"

/* Eight bytes as a number, the first one lowest. */
#define HTTP_WORD(a, b, c, d, e, f, g, h)                                                          \
    (HTTP_METHOD_4(h, g, f, e) << 32 | HTTP_METHOD_4(d, c, b, a))

#define HTTP_ALL(byte) ((byte)*0x0101010101010101ull)

/* Marks those of eight bytes that are below a limit; bytes above the lowest mark may be marked as
 * well (Mycroft's test for a zero byte). */
HTTP_INLINE __u64 http_marks_below(__u64 bytes, __u8 limit)
{
    return (bytes - HTTP_ALL(limit)) & ~bytes & HTTP_ALL(0x80);
}

/* How many bytes are below the lowest mark. */
HTTP_INLINE __u32 http_unmarked(__u64 marks)
{
    __u32 n = 0;

    if (!marks)
        return sizeof(marks);
    if (!(marks & 0xffffffff)) {
        n += 4;
        marks >>= 32;
    }
    if (!(marks & 0xffff)) {
        n += 2;
        marks >>= 16;
    }
    return marks & 0xff ? n : n + 1;
}

HTTP_INLINE bool http_is_line_end(__u64 bytes)
{
    return (bytes & 0xffff) == ('\r' | '\n' << 8);
}

/* The rest of a line that does not matter, with its end if that is there as well. */
HTTP_INLINE __u32 http_rest_word(struct http_stream *s, __u64 bytes)
{
    __u32 n = http_unmarked(http_marks_below(bytes, 16));

    if (n == sizeof(bytes) || !http_is_line_end(bytes >> 8 * n))
        return n;
    s->state = HTTP_LINE;
    return n + 2;
}

/* Up to a blank or a question mark. */
HTTP_INLINE __u32 http_target_word(struct http_stream *s, __u64 bytes)
{
    __u32 n = http_unmarked(http_marks_below(bytes, ' ' + 1) |
                            http_marks_below(bytes ^ HTTP_ALL('?'), 1));
    __u8 length = s->path_length;

    if (n == 0 || s->in_query)
        return n;
    if (length > HTTP_PATH_MAX - sizeof(bytes))
        return 0;
    if (n < sizeof(bytes))
        bytes &= (1ull << 8 * n) - 1;
    __builtin_memcpy(s->path + length, &bytes, sizeof(bytes));
    s->path_length = length + n;
    return n;
}

/* "HTTP/1.0" or "HTTP/1.1" */
HTTP_INLINE __u32 http_version_word(struct http_stream *s, __u64 bytes)
{
    if ((bytes | 1ull << 56) != HTTP_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1'))
        return 0;
    if (s->state == HTTP_START)
        http_begin(s);
    s->matched = sizeof(bytes);
    s->status = 0;
    s->state = s->is_response ? HTTP_VERSION : HTTP_REASON;
    return sizeof(bytes);
}

/* A response's " 200 ", behind its version. */
HTTP_INLINE __u32 http_status_word(struct http_stream *s, __u64 bytes)
{
    __u16 status = 0;

    if ((bytes & 0xff000000ff) != (' ' | (__u64)' ' << 32))
        return 0;
    for (int i = 1; i <= 3; i++) {
        __u8 c = bytes >> 8 * i;

        if (!http_is_digit(c))
            return 0;
        status = (__u16)(status * 10 + (c - '0'));
    }
    if (status < 100)
        return 0;
    s->status = status;
    s->matched += 4;
    s->state = HTTP_REST;
    return 5;
}

/* "GET " */
HTTP_INLINE __u32 http_method_word(struct http_stream *s, __u64 bytes)
{
    if ((__u32)bytes != (__u32)HTTP_WORD('G', 'E', 'T', ' ', 0, 0, 0, 0))
        return 0;
    http_begin(s);
    s->method = HTTP_GET;
    s->state = HTTP_TARGET;
    return 4;
}

/* The line end of a request's first line. */
HTTP_INLINE __u32 http_reason_word(struct http_stream *s, __u64 bytes)
{
    if (!http_is_line_end(bytes))
        return 0;
    s->state = HTTP_LINE;
    return 2;
}

/* "Content-" in upper or lower case, with which a length begins as well; or a line that does not
 * matter. */
HTTP_INLINE __u32 http_line_word(struct http_stream *s, __u64 bytes)
{
    __u8 lower = http_lower((__u8)bytes);

    if (http_takes_field(s))
        return 0;
    if ((bytes | 0x20202020202020) == HTTP_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
        s->matched = sizeof(bytes);
        s->name = HTTP_NAME_LENGTH;
        s->state = HTTP_NAME;
        return sizeof(bytes);
    }
    if (lower < 'a' || lower > 'z' || lower == 'c' || lower == 't' ||
        (lower == 'x' && s->is_response))
        return 0;
    s->matched = 1;
    s->state = HTTP_REST;
    return http_rest_word(s, bytes);
}

/* "Length: ", behind "Content-". */
HTTP_INLINE __u32 http_name_word(struct http_stream *s, __u64 bytes)
{
    if ((bytes | 0x202020202020) != HTTP_WORD('l', 'e', 'n', 'g', 't', 'h', ':', ' ') ||
        s->name != HTTP_NAME_LENGTH || s->matched != sizeof(bytes) || s->in_trailer ||
        s->has_length)
        return 0;
    s->matched = 0;
    s->state = HTTP_LENGTH;
    return sizeof(bytes);
}

/* A length's digits, with the line's end if that is there as well. */
HTTP_INLINE __u32 http_length_word(struct http_stream *s, __u64 bytes)
{
    __u64 length = s->length;
    __u32 n = 0;

    if (s->matched > 1 || length >> 24)
        return 0;
    for (; n < sizeof(bytes) && http_is_digit((__u8)bytes); n++, bytes >>= 8)
        length = length * 10 + ((__u8)bytes - '0');
    if (n == 0)
        return 0;
    s->matched = 1;
    s->length = length;
    if (!http_is_line_end(bytes))
        return n;
    s->matched = 3;
    s->has_length = 1;
    s->state = HTTP_LINE;
    return n + 2;
}

/**
 * Feeds some of the next 8 bytes at once where they are what is most frequent; the event of all of
 * them is HTTP_MORE.
 * @param bytes  the first one lowest
 * @return how many were fed; 0: feed http_step()
 */
HTTP_INLINE __u32 http_word(struct http_stream *s, __u64 bytes)
{
    __u32 n = 0;

    if (s->state == HTTP_REST)
        n = http_rest_word(s, bytes);
    else if (s->state == HTTP_LINE)
        n = http_line_word(s, bytes);
    else if (s->state == HTTP_NAME)
        n = http_name_word(s, bytes);
    else if (s->state == HTTP_LENGTH)
        n = http_length_word(s, bytes);
    else if (s->state == HTTP_START)
        n = s->is_response ? http_version_word(s, bytes) : http_method_word(s, bytes);
    else if (s->state == HTTP_TARGET)
        n = http_target_word(s, bytes);
    else if (s->state == HTTP_VERSION && s->is_response && s->matched == sizeof(bytes))
        n = http_status_word(s, bytes);
    else if (s->state == HTTP_VERSION && !s->is_response && !s->matched)
        n = http_version_word(s, bytes);
    else if (s->state == HTTP_REASON && !s->is_response)
        n = http_reason_word(s, bytes);
    s->position += n;
    return n;
}
