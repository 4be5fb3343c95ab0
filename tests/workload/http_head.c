/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http_head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "util/parse.h"

size_t http_head_length(const char *bytes, size_t length)
{
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);

    return end ? (size_t)(end - bytes) + 4 : 0;
}

static struct slice trim(struct slice slice)
{
    while (slice.length > 0 && (slice.text[0] == ' ' || slice.text[0] == '\t')) {
        slice.text++;
        slice.length--;
    }
    while (slice.length > 0 &&
           (slice.text[slice.length - 1] == ' ' || slice.text[slice.length - 1] == '\t'))
        slice.length--;
    return slice;
}

/* Takes what is before a separator off a text. */
static struct slice split(struct slice *rest, const char *separator)
{
    const char *end = memmem(rest->text, rest->length, separator, strlen(separator));
    struct slice part = {rest->text, end ? (size_t)(end - rest->text) : rest->length};
    size_t taken = end ? part.length + strlen(separator) : part.length;

    rest->text += taken;
    rest->length -= taken;
    return part;
}

struct slice http_field(struct slice head, const char *name)
{
    size_t length = strlen(name);

    split(&head, "\r\n");
    while (head.length > 0) {
        struct slice line = split(&head, "\r\n");

        if (line.length > length && line.text[length] == ':' &&
            strncasecmp(line.text, name, length) == 0)
            return trim((struct slice){line.text + length + 1, line.length - length - 1});
    }
    return (struct slice){NULL, 0};
}

bool http_field_has(struct slice head, const char *name, const char *word)
{
    struct slice value = http_field(head, name);

    while (value.length > 0) {
        struct slice part = trim(split(&value, ","));

        if (part.length == strlen(word) && strncasecmp(part.text, word, part.length) == 0)
            return true;
    }
    return false;
}

int http_content_length(struct slice head, uint64_t *ret)
{
    struct slice value = http_field(head, "Content-Length");

    return value.text ? parse_u64(value.text, value.length, ret) : -ENOENT;
}

bool slice_is(struct slice slice, const char *text)
{
    return slice.length == strlen(text) && memcmp(slice.text, text, slice.length) == 0;
}
