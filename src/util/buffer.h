/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Bytes that grow, and records in them, one after the other. All records are
 * multiples of 8 bytes: each is aligned where it lies.
 */

#include <stddef.h>
#include <stdint.h>

/** Bytes that grow; zero-initialised. */
struct buffer {
    unsigned char *bytes; /* aligned as malloc() does */
    size_t size;
    size_t room;
};

/** Adds bytes at the end. @return 0 or -ENOMEM, then it is as it was */
int buffer_append(struct buffer *buffer, const void *bytes, size_t size);

/** Makes the content that many zero bytes. @return 0 or -ENOMEM, then it is as it was */
int buffer_fill(struct buffer *buffer, size_t size);

void buffer_deinit(struct buffer *buffer);

/** The bytes that have not been taken. */
struct bytes {
    const unsigned char *next;
    size_t left;
};

/** Takes n records of that size. @return the first, or NULL: there are not so many */
static inline const void *bytes_take(struct bytes *bytes, size_t n, size_t size)
{
    const unsigned char *records = bytes->next;

    if (n > bytes->left / size)
        return NULL;
    bytes->next += n * size;
    bytes->left -= n * size;
    return records;
}
