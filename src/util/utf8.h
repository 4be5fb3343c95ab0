/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

/**
 * Length in bytes (1 to 4) of the UTF-8 character a text begins with; 0 when
 * it begins with no valid one (overlong forms, surrogates and codes above
 * U+10FFFF included) or is empty.
 */
size_t utf8_character_length(const char *text, size_t length);
