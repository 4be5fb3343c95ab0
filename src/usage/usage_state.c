/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "usage/usage_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char magic[8] = "vjusage";

/* A byte offset and the absence of padding are part of the format. */
_Static_assert(sizeof(struct usage_state_head) == 56, "head");

#define CHECKSUM_END (offsetof(struct usage_state_head, checksum) + sizeof(uint64_t))

static uint64_t checksum(const void *bytes, size_t size)
{
    return XXH3_64bits((const unsigned char *)bytes + CHECKSUM_END, size - CHECKSUM_END);
}

int usage_state_begin(struct buffer *buffer, const char *provider, uint64_t time_ns)
{
    struct usage_state_head head = {.version = USAGE_STATE_VERSION, .time_ns = time_ns};

    memcpy(head.magic, magic, sizeof(magic));
    snprintf(head.provider, sizeof(head.provider), "%s", provider);
    buffer->size = 0;
    return buffer_append(buffer, &head, sizeof(head));
}

void usage_state_seal(struct buffer *buffer)
{
    struct usage_state_head *head = (struct usage_state_head *)buffer->bytes;

    head->size = buffer->size;
    head->checksum = checksum(buffer->bytes, buffer->size);
}

int usage_state_open(const void *bytes, size_t size, const char *provider, uint64_t time_ns,
                     struct bytes *ret)
{
    const struct usage_state_head *head = bytes;

    if (size < sizeof(*head) || memcmp(head->magic, magic, sizeof(magic)) != 0)
        return -ENOMSG;
    if (head->version != USAGE_STATE_VERSION)
        return -EPROTONOSUPPORT;
    if (head->zero != 0 || head->size < sizeof(*head) || head->size > size ||
        head->checksum != checksum(bytes, head->size))
        return -EBADMSG;
    if (head->time_ns != time_ns || strncmp(head->provider, provider, sizeof(head->provider)) != 0)
        return -ESTALE;
    *ret = (struct bytes){(const unsigned char *)(head + 1), head->size - sizeof(*head)};
    return 0;
}
