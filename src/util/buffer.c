/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buffer_append(struct buffer *buffer, const void *bytes, size_t size)
{
    if (size > buffer->room - buffer->size) {
        size_t room = 2 * (buffer->size + size);
        unsigned char *grown = realloc(buffer->bytes, room);

        if (!grown)
            return -ENOMEM;
        buffer->bytes = grown;
        buffer->room = room;
    }
    if (size)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    return 0;
}

int buffer_fill(struct buffer *buffer, size_t size)
{
    if (size > buffer->room) {
        unsigned char *grown = malloc(2 * size);

        if (!grown)
            return -ENOMEM;
        free(buffer->bytes);
        buffer->bytes = grown;
        buffer->room = 2 * size;
    }
    memset(buffer->bytes, 0, size);
    buffer->size = size;
    return 0;
}

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
