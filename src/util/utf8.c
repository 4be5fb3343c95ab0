/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/utf8.h"

#include <stdint.h>
#include <string.h>

/* Number of bytes that a first byte announces, and the code bits it carries. */
static size_t announced_length(unsigned char first, uint32_t *ret_bits)
{
    if (first < 0x80) {
        *ret_bits = first;
        return 1;
    }
    if (first >= 0xc0 && first < 0xe0) {
        *ret_bits = first & 0x1f;
        return 2;
    }
    if (first >= 0xe0 && first < 0xf0) {
        *ret_bits = first & 0x0f;
        return 3;
    }
    if (first >= 0xf0 && first < 0xf8) {
        *ret_bits = first & 0x07;
        return 4;
    }
    return 0;
}

size_t utf8_character_length(const char *text, size_t length)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;
    size_t n;

    if (length == 0)
        return 0;
    n = announced_length((unsigned char)text[0], &code);
    if (n == 0 || n > length)
        return 0;
    for (size_t i = 1; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];

        if ((byte & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (byte & 0x3f);
    }
    if (code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return n;
}

void utf8_replace_invalid(const char *text, char *buffer, size_t size)
{
    size_t left = strlen(text), used = 0;

    while (left > 0) {
        size_t length = utf8_character_length(text, left);
        const char *character = length ? text : UTF8_REPLACEMENT;
        size_t room = length ? length : UTF8_REPLACEMENT_LENGTH;

        if (used + room >= size)
            break;
        memcpy(buffer + used, character, room);
        used += room;
        text += length ? length : 1;
        left -= length ? length : 1;
    }
    buffer[used] = '\0';
}
