/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "publish/control.h"
#include "require.h"
#include "util/buffer.h"

/** All parts of an answer, to be freed. */
static inline char *control_text(const char *request, size_t length,
                                 const struct snapshot *snapshot, const char *mountpoint)
{
    struct control_answer answer = {.snapshot = snapshot, .mountpoint = mountpoint};
    struct buffer text = {0};
    char *part;
    int r;

    require(control_answer_begin(&answer, request, length, &part) == 0);
    do {
        require(buffer_append(&text, part, strlen(part)) == 0);
        free(part);
        r = control_answer_continue(&answer, &part);
    } while (r > 0);
    require(r == 0 && buffer_append(&text, "", 1) == 0);
    return (char *)text.bytes;
}
