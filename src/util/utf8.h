/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/**
 * Length in bytes (1 to 4) of the UTF-8 character at the start of a text; 0
 * when the text is empty or begins with no valid character (an overlong form,
 * a surrogate or a code above U+10FFFF).
 */
size_t utf8_character_length(const char *text, size_t length);

/* U+FFFD, the replacement character, and the bytes it takes. */
#define UTF8_REPLACEMENT "\xef\xbf\xbd"
#define UTF8_REPLACEMENT_LENGTH 3

/**
 * Copies a text, with U+FFFD for every byte that is not part of valid UTF-8. A
 * copy that does not fit is cut at the end of a character. A buffer of
 * UTF8_REPLACEMENT_LENGTH bytes for each byte of the text, and one for the NUL,
 * always suffices.
 */
void utf8_replace_invalid(const char *text, char *buffer, size_t size);
