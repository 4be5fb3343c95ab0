/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/**
 * Length in bytes (1 to 4) of the UTF-8 character a text begins with; 0 when
 * it begins with no valid one (overlong forms, surrogates and codes above
 * U+10FFFF included) or is empty.
 */
size_t utf8_character_length(const char *text, size_t length);

/* U+FFFD, the replacement character, and the bytes it takes. */
#define UTF8_REPLACEMENT "\xef\xbf\xbd"
#define UTF8_REPLACEMENT_LENGTH 3

/**
 * Copies a text, with U+FFFD for every byte that is not part of valid UTF-8;
 * cut at a character's end where it does not fit. A buffer of
 * UTF8_REPLACEMENT_LENGTH bytes for each one of the text, and a NUL, always fits.
 */
void utf8_replace_invalid(const char *text, char *buffer, size_t size);
