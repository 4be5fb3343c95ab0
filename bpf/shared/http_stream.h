/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * One direction of an HTTP/1 connection, followed byte by byte: where messages
 * begin and end, and where a field may be added. This header is compiled into
 * the kernel's programs, and natively into the unit test and the fuzz target.
 *
 * The input is what is received (requests) or sent (responses), with its place
 * in the stream; the output are events. Of the bytes, only what the framing
 * needs is kept (RFC 9112, section 6), so that messages may be cut into segments
 * anywhere. Bodies are not looked at: the place where a body ends is known, so
 * the stream is not confused by a sender that sends bytes again because the
 * socket did not take all of them, nor by bytes that take another way (splice).
 *
 * A parser that takes a message differently from its receiver can be made to see
 * a message where there is none. So anything doubtful ends the following of the
 * connection, which is then left alone for ever: two lengths, a length beside a
 * coding, a coding other than chunked, folded lines, blanks before a colon,
 * anything that is not HTTP/1.0 or 1.1.
 */

#include <linux/types.h>
#include <stdbool.h>

/* Clang gives static variables of a BPF object no place in its BTF. */
#ifdef __bpf__
#define HTTP_CONST const
#else
#define HTTP_CONST static const
#endif

#define HTTP_INLINE static inline __attribute__((always_inline))

/** Bytes of the path that are kept for the log, without the query. */
#define HTTP_PATH_MAX 64

/** Our field. Another field that begins with this name has the name's last letter replaced. */
#define HTTP_SCORE_NAME "X-Energy-Score"
#define HTTP_RENAMED '-'

/** Longest body; sums with it do not overflow. */
#define HTTP_LENGTH_MAX (1ull << 56)

enum http_state {
    HTTP_START, /* of a message; blank lines may come first */
    HTTP_METHOD,
    HTTP_TARGET,
    HTTP_VERSION, /* from its first byte on; in a response with the status */
    HTTP_REASON,
    HTTP_LINE, /* the first byte of a field line */
    HTTP_NAME,
    HTTP_COLON,
    HTTP_LENGTH,
    HTTP_CODING,
    HTTP_REST,     /* of a line that does not matter here */
    HTTP_REST_END, /* its line feed */
    HTTP_LAST,     /* the line feed of the empty line */
    HTTP_BODY,     /* until body_end */
    HTTP_CHUNK,
    HTTP_CHUNK_REST,
    HTTP_CHUNK_LAST, /* the line feed of its first line */
    HTTP_CHUNK_END,  /* the line end after a chunk */
    HTTP_UNTIL_CLOSE,
    HTTP_LOST, /* left alone for ever */
};

enum http_event {
    HTTP_MORE,
    HTTP_INSERT,   /* a field may be added before the byte fed; repeated until http_shift() */
    HTTP_FORGED,   /* the byte fed is to be replaced by HTTP_RENAMED */
    HTTP_HEAD_END, /* the head of a message ended; no interim response's */
    HTTP_END,      /* its body ended, even an empty one */
    HTTP_BAD,      /* the connection is lost */
};

enum http_name {
    HTTP_NAME_LENGTH,
    HTTP_NAME_CODING,
    HTTP_NAME_SCORE,
    HTTP_NAMES,
};

/* Methods as they are kept: their letters, the last one lowest. */
#define HTTP_METHOD_4(a, b, c, d)                                                                  \
    ((__u64)(a) << 24 | (__u64)(b) << 16 | (__u64)(c) << 8 | (__u64)(d))
#define HTTP_GET HTTP_METHOD_4(0, 'G', 'E', 'T')
#define HTTP_PUT HTTP_METHOD_4(0, 'P', 'U', 'T')
#define HTTP_HEAD_METHOD HTTP_METHOD_4('H', 'E', 'A', 'D')
#define HTTP_POST HTTP_METHOD_4('P', 'O', 'S', 'T')
#define HTTP_TRACE (HTTP_METHOD_4('T', 'R', 'A', 'C') << 8 | 'E')
#define HTTP_PATCH (HTTP_METHOD_4('P', 'A', 'T', 'C') << 8 | 'H')
#define HTTP_DELETE (HTTP_METHOD_4('D', 'E', 'L', 'E') << 16 | HTTP_METHOD_4(0, 0, 'T', 'E'))
#define HTTP_OPTIONS (HTTP_METHOD_4('O', 'P', 'T', 'I') << 24 | HTTP_METHOD_4(0, 'O', 'N', 'S'))
#define HTTP_CONNECT (HTTP_METHOD_4('C', 'O', 'N', 'N') << 24 | HTTP_METHOD_4(0, 'E', 'C', 'T'))

/** A direction; all zero is the start of a connection's requests. */
struct http_stream {
    __u64 position;   /* in the stream, of the byte that comes next */
    __u64 body_start; /* of the body or chunk in which the stream is, or was last */
    __u64 body_end;
    __u64 length; /* as read so far from a length field or a chunk's first line */
    __u64 method; /* of the request, or of the one that is answered */
    __u16 status; /* of a response */
    __u8 is_response;
    __u8 state;
    __u8 name;    /* of the field */
    __u8 matched; /* bytes of a name or word */
    __u8 has_length : 1;
    __u8 is_chunked : 1;
    __u8 in_trailer : 1;
    __u8 has_ended : 1; /* the end of the body was reported already */
    __u8 has_field : 1; /* one was added */
    __u8 path_length;
    __u8 in_query;
    char path[HTTP_PATH_MAX];
};

HTTP_CONST char http_names[HTTP_NAMES][20] = {"content-length", "transfer-encoding",
                                              "x-energy-score"};
HTTP_CONST char http_chunked[8] = "chunked";
HTTP_CONST char http_version[8] = "HTTP/1.";

HTTP_INLINE __u8 http_lower(__u8 c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

HTTP_INLINE bool http_is_blank(__u8 c)
{
    return c == ' ' || c == '\t';
}

HTTP_INLINE bool http_is_digit(__u8 c)
{
    return c >= '0' && c <= '9';
}

HTTP_INLINE bool http_is_known_method(__u64 method)
{
    return method == HTTP_GET || method == HTTP_PUT || method == HTTP_HEAD_METHOD ||
           method == HTTP_POST || method == HTTP_TRACE || method == HTTP_PATCH ||
           method == HTTP_DELETE || method == HTTP_OPTIONS || method == HTTP_CONNECT;
}

HTTP_INLINE enum http_event http_lose(struct http_stream *s)
{
    s->state = HTTP_LOST;
    return HTTP_BAD;
}

HTTP_INLINE void http_begin(struct http_stream *s)
{
    s->length = 0;
    s->matched = 0;
    s->has_length = 0;
    s->is_chunked = 0;
    s->in_trailer = 0;
    s->has_ended = 0;
    s->has_field = 0;
    if (!s->is_response) {
        s->method = 0;
        s->path_length = 0;
        s->in_query = 0;
    }
}

HTTP_INLINE enum http_event http_end(struct http_stream *s)
{
    s->state = HTTP_START;
    if (s->has_ended)
        return HTTP_MORE;
    s->has_ended = 1;
    return HTTP_END;
}

/** Whether the message has no body, whatever its fields say (RFC 9112, 6.3). */
HTTP_INLINE bool http_is_bodiless(const struct http_stream *s)
{
    return s->is_response &&
           (s->method == HTTP_HEAD_METHOD || s->status == 204 || s->status == 304);
}

HTTP_INLINE enum http_event http_begin_body(struct http_stream *s)
{
    s->body_start = s->position;
    s->body_end = s->position + s->length;
    s->state = HTTP_BODY;
    return HTTP_HEAD_END;
}

HTTP_INLINE enum http_event http_head_end(struct http_stream *s)
{
    if (s->in_trailer)
        return http_end(s);
    if (s->is_response && s->status < 200) {
        s->state = HTTP_START;
        return s->status == 101 ? http_lose(s) : HTTP_MORE;
    }
    if (s->is_response && s->method == HTTP_CONNECT && s->status < 300)
        return http_lose(s);
    if (s->has_length && s->is_chunked)
        return http_lose(s);
    if (http_is_bodiless(s)) {
        s->is_chunked = 0;
        s->length = 0;
        return http_begin_body(s);
    }
    if (s->is_chunked) {
        s->state = HTTP_CHUNK;
        s->matched = 0;
        return HTTP_HEAD_END;
    }
    if (s->is_response && !s->has_length) {
        s->state = HTTP_UNTIL_CLOSE;
        return HTTP_HEAD_END;
    }
    return http_begin_body(s);
}

HTTP_INLINE enum http_event http_method_byte(struct http_stream *s, __u8 c)
{
    if (c == ' ') {
        if (!http_is_known_method(s->method))
            return http_lose(s);
        s->state = HTTP_TARGET;
        return HTTP_MORE;
    }
    if (c < 'A' || c > 'Z' || s->method >> 48)
        return http_lose(s);
    s->method = s->method << 8 | c;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_target_byte(struct http_stream *s, __u8 c)
{
    if (c == ' ') {
        s->state = HTTP_VERSION;
        s->matched = 0;
        return HTTP_MORE;
    }
    if (c < ' ')
        return http_lose(s); /* HTTP/0.9 has no fields */
    if (c == '?')
        s->in_query = 1;
    if (!s->in_query && s->path_length < HTTP_PATH_MAX)
        s->path[s->path_length++] = (char)c;
    return HTTP_MORE;
}

/* "HTTP/1.", a minor version, and in a response a blank and a status of three digits. */
HTTP_INLINE enum http_event http_version_byte(struct http_stream *s, __u8 c)
{
    __u8 i = s->matched++;

    if (i < sizeof(http_version) - 1)
        return c == (__u8)http_version[i] ? HTTP_MORE : http_lose(s);
    if (i == sizeof(http_version) - 1) {
        s->status = 0;
        if (!s->is_response)
            s->state = HTTP_REASON;
        return c == '0' || c == '1' ? HTTP_MORE : http_lose(s);
    }
    if (i == sizeof(http_version))
        return c == ' ' ? HTTP_MORE : http_lose(s);
    if (!http_is_digit(c))
        return http_lose(s);
    s->status = (__u16)(s->status * 10 + (c - '0'));
    if (i == sizeof(http_version) + 3)
        s->state = s->status >= 100 ? HTTP_REASON : HTTP_LOST;
    return s->state == HTTP_LOST ? HTTP_BAD : HTTP_MORE;
}

/* Some receivers take a carriage return alone for a line's end. */
HTTP_INLINE enum http_event http_rest_byte(struct http_stream *s, __u8 c)
{
    s->state = c == '\n' ? HTTP_LINE : c == '\r' ? HTTP_REST_END : HTTP_REST;
    return HTTP_MORE;
}

/* What follows the version of a request, or the status of a response. */
HTTP_INLINE enum http_event http_reason_byte(struct http_stream *s, __u8 c)
{
    if (c != '\r' && c != '\n' && (!s->is_response || c != ' '))
        return http_lose(s);
    return http_rest_byte(s, c);
}

HTTP_INLINE enum http_event http_begin_line(struct http_stream *s, __u8 c)
{
    __u8 lower = http_lower(c);

    if (c == '\n')
        return http_head_end(s);
    if (http_is_blank(c))
        return http_lose(s);
    s->matched = 1;
    s->state = HTTP_NAME;
    if (c == '\r')
        s->state = HTTP_LAST;
    else if (lower == 'c')
        s->name = HTTP_NAME_LENGTH;
    else if (lower == 't')
        s->name = HTTP_NAME_CODING;
    else if (lower == 'x' && s->is_response)
        s->name = HTTP_NAME_SCORE;
    else
        s->state = HTTP_REST;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_name_byte(struct http_stream *s, __u8 c)
{
    __u8 i = s->matched++, name = s->name;

    if (name >= HTTP_NAMES || i >= sizeof(http_names[0]) - 1)
        return http_lose(s);
    if (http_lower(c) != (__u8)http_names[name][i])
        return http_rest_byte(s, c);
    if (http_names[name][i + 1] != '\0')
        return HTTP_MORE;
    if (name == HTTP_NAME_SCORE) {
        s->state = HTTP_REST;
        return HTTP_FORGED;
    }
    s->state = HTTP_COLON;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_colon_byte(struct http_stream *s, __u8 c)
{
    bool is_length = s->name == HTTP_NAME_LENGTH;

    if (c != ':') {
        /* A longer name is another field's; a blank or line end must not follow a name. */
        s->state = HTTP_REST;
        return c > ' ' ? HTTP_MORE : http_lose(s);
    }
    if (s->in_trailer || (is_length ? s->has_length : s->is_chunked))
        return http_lose(s);
    s->matched = 0;
    s->state = is_length ? HTTP_LENGTH : HTTP_CODING;
    return HTTP_MORE;
}

/* Digits between blanks; matched: 0 before them, 1 in them, 2 behind them, 3 at the line's end. */
HTTP_INLINE enum http_event http_length_byte(struct http_stream *s, __u8 c)
{
    if (s->matched == 3 && c != '\n')
        return http_lose(s);
    if (http_is_digit(c)) {
        if (s->matched == 2 || s->length >= HTTP_LENGTH_MAX / 16)
            return http_lose(s);
        s->matched = 1;
        s->length = s->length * 10 + (c - '0');
        return HTTP_MORE;
    }
    if (http_is_blank(c)) {
        if (s->matched == 1)
            s->matched = 2;
        return HTTP_MORE;
    }
    if (s->matched == 0 || (c != '\r' && c != '\n'))
        return http_lose(s);
    if (c == '\r') {
        s->matched = 3;
        return HTTP_MORE;
    }
    s->has_length = 1;
    s->state = HTTP_LINE;
    return HTTP_MORE;
}

/* "chunked" between blanks. */
HTTP_INLINE enum http_event http_coding_byte(struct http_stream *s, __u8 c)
{
    __u8 i = s->matched, last = sizeof(http_chunked) + 1;

    if (c == '\n' && i >= sizeof(http_chunked) - 1) {
        s->is_chunked = 1;
        s->state = HTTP_LINE;
        return HTTP_MORE;
    }
    if (i == last)
        return http_lose(s);
    if (c == '\r') {
        s->matched = last;
        return i >= sizeof(http_chunked) - 1 ? HTTP_MORE : http_lose(s);
    }
    if (http_is_blank(c)) {
        if (i == sizeof(http_chunked) - 1)
            s->matched = sizeof(http_chunked);
        return i == 0 || i >= sizeof(http_chunked) - 1 ? HTTP_MORE : http_lose(s);
    }
    if (i >= sizeof(http_chunked) - 1 || http_lower(c) != (__u8)http_chunked[i])
        return http_lose(s);
    s->matched = i + 1;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_chunk_line_end(struct http_stream *s)
{
    if (s->length) {
        http_begin_body(s);
        return HTTP_MORE;
    }
    s->in_trailer = 1;
    s->state = HTTP_LINE;
    return HTTP_MORE;
}

/* Extensions. Some receivers take a line feed alone for a line's end here, others do not. */
HTTP_INLINE enum http_event http_chunk_rest_byte(struct http_stream *s, __u8 c)
{
    if (c == '\n')
        return http_lose(s);
    s->state = c == '\r' ? HTTP_CHUNK_LAST : HTTP_CHUNK_REST;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_chunk_byte(struct http_stream *s, __u8 c)
{
    __u8 lower = http_lower(c);

    if (http_is_digit(c) || (lower >= 'a' && lower <= 'f')) {
        if (s->length >= HTTP_LENGTH_MAX / 16)
            return http_lose(s);
        s->matched = 1;
        s->length = s->length * 16 + (http_is_digit(c) ? c - '0' : lower - 'a' + 10);
        return HTTP_MORE;
    }
    if (!s->matched || (!http_is_blank(c) && c != '\r' && c != ';'))
        return http_lose(s);
    return http_chunk_rest_byte(s, c);
}

HTTP_INLINE enum http_event http_chunk_end_byte(struct http_stream *s, __u8 c)
{
    if (c == '\r' && !s->matched) {
        s->matched = 1;
        return HTTP_MORE;
    }
    if (c != '\n' || !s->matched)
        return http_lose(s);
    s->state = HTTP_CHUNK;
    s->matched = 0;
    s->length = 0;
    return HTTP_MORE;
}

HTTP_INLINE enum http_event http_start_byte(struct http_stream *s, __u8 c)
{
    if (c == '\r' || c == '\n')
        return s->is_response ? http_lose(s) : HTTP_MORE;
    http_begin(s);
    s->state = s->is_response ? HTTP_VERSION : HTTP_METHOD;
    return s->is_response ? http_version_byte(s, c) : http_method_byte(s, c);
}

/** Whether a field may be added before the byte that comes next. */
HTTP_INLINE bool http_takes_field(const struct http_stream *s)
{
    return s->state == HTTP_LINE && s->is_response && s->status >= 200 && !s->in_trailer &&
           !s->has_field;
}

HTTP_INLINE enum http_event http_line_byte(struct http_stream *s, __u8 c)
{
    bool takes_field = http_takes_field(s);
    enum http_event event = http_begin_line(s, c);

    /* The empty line's line feed alone is both: it has no room for a second event. */
    return event == HTTP_MORE && takes_field ? HTTP_INSERT : event;
}

/** Feeds the byte at the stream's position; not in a body (see http_skip()). */
HTTP_INLINE enum http_event http_step(struct http_stream *s, __u8 c)
{
    s->position++;
    switch (s->state) {
    case HTTP_START:
        return http_start_byte(s, c);
    case HTTP_METHOD:
        return http_method_byte(s, c);
    case HTTP_TARGET:
        return http_target_byte(s, c);
    case HTTP_VERSION:
        return http_version_byte(s, c);
    case HTTP_REASON:
        return http_reason_byte(s, c);
    case HTTP_LINE:
        return http_line_byte(s, c);
    case HTTP_NAME:
        return http_name_byte(s, c);
    case HTTP_COLON:
        return http_colon_byte(s, c);
    case HTTP_LENGTH:
        return http_length_byte(s, c);
    case HTTP_CODING:
        return http_coding_byte(s, c);
    case HTTP_REST:
        return http_rest_byte(s, c);
    case HTTP_REST_END:
        return c == '\n' ? http_rest_byte(s, c) : http_lose(s);
    case HTTP_LAST:
        return c == '\n' ? http_head_end(s) : http_lose(s);
    case HTTP_CHUNK:
        return http_chunk_byte(s, c);
    case HTTP_CHUNK_REST:
        return http_chunk_rest_byte(s, c);
    case HTTP_CHUNK_LAST:
        return c == '\n' ? http_chunk_line_end(s) : http_lose(s);
    case HTTP_CHUNK_END:
        return http_chunk_end_byte(s, c);
    default:
        return HTTP_BAD;
    }
}

/** Whether the next call is http_skip(), be it for the end of the body only, not http_step(). */
HTTP_INLINE bool http_is_in_body(const struct http_stream *s)
{
    return s->state == HTTP_BODY || s->state == HTTP_UNTIL_CLOSE || s->state == HTTP_LOST;
}

/** How many of n bytes belong to the body. */
HTTP_INLINE __u64 http_body_bytes(const struct http_stream *s, __u64 n)
{
    if (s->state != HTTP_BODY)
        return n;
    return n < s->body_end - s->position ? n : s->body_end - s->position;
}

/** Goes on after bytes of a body: http_body_bytes() of them at most. */
HTTP_INLINE enum http_event http_skip(struct http_stream *s, __u64 n)
{
    s->position += n;
    if (s->state != HTTP_BODY || s->position < s->body_end)
        return HTTP_MORE;
    if (!s->is_chunked)
        return http_end(s);
    s->state = HTTP_CHUNK_END;
    s->matched = 0;
    return HTTP_MORE;
}

/**
 * Reports the end of a message before the rest of its body, which is certain to follow. The end is
 * not reported again.
 * @return the rest's length; 0: the message is over already, or its length is not known
 */
HTTP_INLINE __u64 http_end_early(struct http_stream *s)
{
    if (s->state != HTTP_BODY || s->is_chunked || s->has_ended)
        return 0;
    s->has_ended = 1;
    return s->body_end - s->position;
}

/** Accounts for a field that was added to the head that was fed last. */
HTTP_INLINE void http_shift(struct http_stream *s, __u32 n)
{
    s->position += n;
    s->body_start += n;
    s->body_end += n;
    s->has_field = 1;
}

/**
 * Sets the place in the stream of the next bytes. In a body that may be anywhere: bytes
 * went by unseen, or the socket did not take them and they come again.
 */
HTTP_INLINE enum http_event http_seek(struct http_stream *s, __u64 position)
{
    if (position == s->position || s->state == HTTP_LOST)
        return HTTP_MORE;
    if (s->state == HTTP_START && !s->is_chunked && position < s->position &&
        position >= s->body_start)
        s->state = HTTP_BODY; /* the end of it comes again; has_ended knows */
    if (s->state != HTTP_UNTIL_CLOSE && (s->state != HTTP_BODY || position > s->body_end))
        return http_lose(s);
    s->position = position;
    return HTTP_MORE;
}
