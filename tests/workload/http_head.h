/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* HTTP/1.1 heads (RFC 9112) in a buffer of any bytes: what the workload's two ends share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Part of a buffer. */
struct slice {
    const char *text;
    size_t length;
};

/** Length of a head up to its empty line, that included; 0: it is not all there. */
size_t http_head_length(const char *bytes, size_t length);

/** A field's value, without blanks around it; the text is NULL where there is none. */
struct slice http_field(struct slice head, const char *name);

/** Is a word among the field's comma-separated ones? Case does not matter. */
bool http_field_has(struct slice head, const char *name, const char *word);

/**
 * The field Content-Length.
 * @return 0; -ENOENT: there is none; -EINVAL or -ERANGE
 */
int http_content_length(struct slice head, uint64_t *ret);

/** Does a slice hold just this? Case matters. */
bool slice_is(struct slice slice, const char *text);
