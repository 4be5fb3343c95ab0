/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One direction of a connection, as it comes: the first byte says which, and
 * what is answered; the second where the bytes are cut. Cut or whole, the same
 * must be seen.
 */

#include <string.h>

#include "fuzz.h"

#include "shared/http_words.h"

struct seen {
    size_t n;
    uint64_t sum; /* of events and their places */
    bool in_head; /* a field was inserted, and its head has not ended */
};

static void see(struct seen *seen, enum http_event event, uint64_t position)
{
    if (event == HTTP_MORE)
        return;
    seen->n++;
    seen->sum = seen->sum * 31 + (uint64_t)event * 1000003 + position;
    if (event == HTTP_INSERT) {
        seen->in_head = true;
    } else if (event == HTTP_HEAD_END || event == HTTP_BAD) {
        seen->in_head = false;
    } else if (event == HTTP_END) {
        require(!seen->in_head);
    }
}

static uint64_t feed_word(struct http_stream *s, const uint8_t *bytes, size_t n)
{
    uint64_t word;

    if (n < sizeof(word))
        return 0;
    memcpy(&word, bytes, sizeof(word));
    return http_word(s, word);
}

static void feed(struct http_stream *s, const uint8_t *bytes, size_t n, struct seen *seen)
{
    size_t i = 0;

    while (s->state != HTTP_LOST &&
           (i < n || (s->state == HTTP_BODY && s->position == s->body_end))) {
        uint64_t position = s->position, taken;
        enum http_event event;

        if (http_is_in_body(s)) {
            taken = http_body_bytes(s, n - i);
            require(taken <= n - i);
            event = http_skip(s, taken);
        } else {
            taken = feed_word(s, bytes + i, n - i);
            event = taken ? HTTP_MORE : http_step(s, bytes[i]);
            taken = taken ?: 1;
        }
        i += taken;
        require(s->position == position + taken);
        require(s->path_length <= HTTP_PATH_MAX);
        see(seen, event, s->position);
        /* There is room for it at some time. */
        if (event == HTTP_INSERT && s->position % 3 == 0) {
            require(!s->has_field);
            http_shift(s, 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t methods[] = {HTTP_GET, HTTP_HEAD_METHOD, HTTP_CONNECT};
    struct http_stream whole = {0}, pieces;
    struct seen seen = {0}, seen_in_pieces = {0};
    size_t piece;

    if (size < 2)
        return 0;
    whole.is_response = data[0] & 1;
    whole.method = methods[(data[0] >> 1) % 3];
    pieces = whole;
    piece = 1 + data[1] % 16;
    feed(&whole, data + 2, size - 2, &seen);
    for (size_t i = 2; i < size; i += piece)
        feed(&pieces, data + i, size - i < piece ? size - i : piece, &seen_in_pieces);
    require(seen.n == seen_in_pieces.n && seen.sum == seen_in_pieces.sum);
    require(whole.state == pieces.state && whole.position == pieces.position);
    return 0;
}
